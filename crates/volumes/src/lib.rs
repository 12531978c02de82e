//! What is mounted into a pod.
