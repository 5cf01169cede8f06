//! Bytes of JSON to commands, outcomes to replies: what clients may say and what the service says. Pure.
//!
//! `message_handler` decodes requests and encodes outcomes; `outcome` lists these, `outgoing` has the messages of the service, `bills`
//! names bills, `json` reads values in place.

pub mod bills;
pub mod json;
pub mod json_members;
pub mod lone_surrogates;
pub mod message_handler;
pub mod outcome;
pub mod outgoing;
