//! Who is connected and who follows what. No I/O and no transport: the hub knows topics, users and connection numbers, never sockets.

mod topic;

pub use topic::{ChannelName, InvalidChannelName, Topic};
