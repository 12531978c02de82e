//! The request pipeline of the Kubernetes API.
