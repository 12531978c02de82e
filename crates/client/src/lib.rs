//! The one way a component talks to the API.
