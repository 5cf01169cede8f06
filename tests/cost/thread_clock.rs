//! How long a thread has run: the time in which other programs had its core does not count.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone)]
pub struct ThreadClock(PathBuf);

impl ThreadClock {
    /// The thread of this name, which must be the only one.
    pub fn of(name: &str) -> Self {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let mut found =
            tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
        let task = found.next().expect("a thread of this name");
        assert!(found.next().is_none(), "there are two");
        Self(task.join("schedstat"))
    }

    pub fn now(&self) -> Duration {
        let mut bytes = [0; 64];
        let count = std::io::Read::read(&mut fs::File::open(&self.0).unwrap(), &mut bytes).unwrap();
        let text = str::from_utf8(&bytes[..count]).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
}
