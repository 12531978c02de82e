//! A kind's schema as data, and everything done by walking it.
