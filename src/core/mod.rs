//! Users, topics, connections and the threads that own them.

pub mod authenticator;
