//! Pod life cycle as decisions: desired and observed in, steps out.
