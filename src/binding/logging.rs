//! Log lines of one service: to its `logger`, and to stderr if the variable `CARILLON_LOG` asks for it.
//!
//! Each service has a dispatcher of its own, set on its threads and around its calls, so that the logs of several services in one
//! process stay apart.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{EnvFilter, fmt as stderr, registry};

use crate::binding::js_task::LogLevel;
use crate::binding::log_writer::{Lines, LogWriter};
use crate::binding::node_application::NodeApplication;

/// A filter as `tracing` knows it: `info`, `carillon=debug`.
pub const VARIABLE: &str = "CARILLON_LOG";

/// The dispatcher, and the writer of its lines to stderr if there is one.
pub fn dispatch(application: Arc<NodeApplication>, variable: Option<String>) -> (Dispatch, Option<Arc<LogWriter>>) {
    let filter = variable.filter(|filter| !filter.is_empty()).map(EnvFilter::new);
    let to_stderr = filter.and_then(|filter| Some((filter, LogWriter::shared()?)));
    let writer = to_stderr.as_ref().map(|(_, writer)| writer.clone());
    let layer = to_stderr.map(|(filter, writer)| {
        stderr::layer().with_writer(move || Lines::new(writer.clone())).with_ansi(false).with_filter(filter)
    });
    (Dispatch::new(registry().with(layer).with(ToLogger { application })), writer)
}

struct ToLogger {
    application: Arc<NodeApplication>,
}

impl<S: Subscriber> Layer<S> for ToLogger {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG | Level::TRACE => LogLevel::Debug,
        };
        // Only the service's own lines: not those of libraries.
        if !self.application.logs(level) || !event.metadata().target().starts_with("carillon") {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        self.application.log(level, line.message, line.context);
    }
}

#[derive(Default)]
struct Line {
    message: String,
    context: Map<String, Value>,
}

impl Line {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.context.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}
