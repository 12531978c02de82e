//! Cluster DNS answered on each node.
