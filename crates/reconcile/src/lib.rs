//! The one runner: keys in, decide, actions out.
