//! Memory policies.
