//! A folder per controller: what it reads, what it alone owns, decide.
