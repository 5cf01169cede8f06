//! The tasks that Node's thread has taken and not carried out yet: urgent ones, and events and log lines. Pure.

use std::collections::VecDeque;

use crate::binding::js_task::JsTask;

#[derive(Default)]
pub struct Backlog {
    urgent: VecDeque<JsTask>,
    others: VecDeque<JsTask>,
    /// The event loop has been asked to continue with it.
    pub is_scheduled: bool,
}

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.others.is_empty()
    }

    /// Events and log lines.
    pub fn undelivered(&self) -> usize {
        self.others.len()
    }

    pub fn next_urgent(&mut self) -> Option<JsTask> {
        self.urgent.pop_front()
    }

    pub fn next_other(&mut self) -> Option<JsTask> {
        self.others.pop_front()
    }
}

impl Extend<JsTask> for Backlog {
    fn extend<T: IntoIterator<Item = JsTask>>(&mut self, tasks: T) {
        for task in tasks {
            if task.is_urgent() { self.urgent.push_back(task) } else { self.others.push_back(task) }
        }
    }
}
