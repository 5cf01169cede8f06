//! The service as a whole: its lifecycle, publishing, and what can be asked of it.

#[cfg(all(test, feature = "model"))]
mod models;
pub mod websocket_service;
