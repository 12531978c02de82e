//! Queue, view of nodes, filters, scores and binding.
