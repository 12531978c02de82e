//! Certificate authority, certificates that renew themselves, tokens.
