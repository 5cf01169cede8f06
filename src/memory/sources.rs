//! Where numbers about memory come from: the container, the machine, the process, V8, and the service itself.
//!
//! [`System`] reads the files of a Linux system, from any root so that tests can lay them out. What a system does
//! not tell is absent, never zero. Called on the memory manager's thread.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Limits from here on mean that there is none: version 1 of control groups knows no word for it.
const UNLIMITED: u64 = 1 << 60;

/// Bytes in use of a limit that is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub limit: u64,
}

/// What a pressure was measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PressureSource {
    /// The control group, or one it is in.
    Container,
    /// V8's heap against what it may grow to.
    Heap,
    /// Physical memory that is not available.
    Machine,
    /// The application's own word.
    Report,
}

/// How scarce memory is, 0 to 1, and by whose account.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    pub ratio: f64,
    pub source: PressureSource,
}

/// Which measurements count as pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySources {
    pub container: bool,
    pub machine: bool,
    pub heap: bool,
}

impl Default for MemorySources {
    fn default() -> Self {
        Self { container: true, machine: true, heap: true }
    }
}

/// The machine's memory counts only if this process holds at least this share of what is in use: otherwise others fill it,
/// and nothing that we give back would help.
const RELEVANT_SHARE: f64 = 0.25;

/// Everything measured at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub container: Option<Usage>,
    pub heap: Option<Usage>,
    pub machine: Option<Usage>,
    /// Bytes of the process in physical memory.
    pub resident: Option<u64>,
}

/// What the service itself holds, by exact counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceUsage {
    pub connections: u64,
    pub subscriptions: u64,
    /// Publishes that wait for a shard.
    pub queued_bytes: u64,
    /// Bytes that wait for peers to read.
    pub unwritten_bytes: u64,
    pub dedupe_entries: u64,
}

/// The files of a Linux system.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

impl Usage {
    /// `None` without a limit.
    pub fn new(used: u64, limit: u64) -> Option<Self> {
        (limit > 0 && limit < UNLIMITED).then_some(Self { used, limit })
    }

    pub fn ratio(self) -> f64 {
        self.used as f64 / self.limit as f64
    }
}

impl PressureSource {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Heap => "heap",
            Self::Machine => "machine",
            Self::Report => "report",
        }
    }
}

impl Reading {
    /// The worst of what was measured and counts.
    pub fn pressure(&self, sources: MemorySources) -> Option<Pressure> {
        let machine = self.machine.filter(|machine| {
            self.resident.is_some_and(|resident| resident as f64 >= machine.used as f64 * RELEVANT_SHARE)
        });
        [
            (self.container.filter(|_| sources.container), PressureSource::Container),
            (self.heap.filter(|_| sources.heap), PressureSource::Heap),
            (machine.filter(|_| sources.machine), PressureSource::Machine),
        ]
        .into_iter()
        .filter_map(|(usage, source)| Some(Pressure { ratio: usage?.ratio(), source }))
        .max_by(|one, other| one.ratio.total_cmp(&other.ratio))
    }
}

impl Default for System {
    fn default() -> Self {
        Self::at("/")
    }
}

impl System {
    /// The system whose `proc` and `sys` lie in `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// All but the heap, which only V8 knows.
    pub fn read(&self) -> Reading {
        Reading { container: self.container(), heap: None, machine: self.machine(), resident: self.resident() }
    }

    /// The tightest of the limits that the process' control group and those around it have.
    pub fn container(&self) -> Option<Usage> {
        let (layout, path) = parse_membership(&self.text("proc/self/cgroup")?)?;
        let top = self.root.join(layout.mount());
        // Without a namespace of its own, a container sees its group mounted at the top, but its path from the
        // host's top: what is not there is passed over. A group outside of the namespace begins with `..`.
        let names: Vec<_> = Path::new(&path).components().filter(|part| matches!(part, Component::Normal(_))).collect();
        (0..=names.len())
            .map(|depth| names.iter().take(depth).fold(top.clone(), |group, name| group.join(name)))
            .filter_map(|group| layout.usage(&group))
            .max_by(|one, other| one.ratio().total_cmp(&other.ratio()))
    }

    pub fn machine(&self) -> Option<Usage> {
        parse_machine(&self.text("proc/meminfo")?)
    }

    pub fn resident(&self) -> Option<u64> {
        // `status` rather than `statm`: it needs no page size.
        field(&self.text("proc/self/status")?, "VmRSS:").map(|kilobytes| kilobytes * 1024)
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }
}

/// The two ways control groups are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    V1,
    V2,
}

impl Layout {
    fn mount(self) -> &'static str {
        match self {
            Self::V1 => "sys/fs/cgroup/memory",
            Self::V2 => "sys/fs/cgroup",
        }
    }

    /// What this one group uses of its own limit. The inactive part of the page cache does
    /// not count: it fills every group up to its limit, and goes before anything else does.
    fn usage(self, group: &Path) -> Option<Usage> {
        let (limit, used, cache) = match self {
            Self::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            Self::V2 => ("memory.max", "memory.current", "inactive_file"),
        };
        let read = |name| fs::read_to_string(group.join(name)).ok();
        let number = |name| read(name)?.trim().parse::<u64>().ok();
        // `max` is no number, and no limit.
        let limit = number(limit)?;
        let cache = read("memory.stat").and_then(|stat| field(&stat, cache)).unwrap_or(0);
        Usage::new(number(used)?.saturating_sub(cache), limit)
    }
}

/// Where `/proc/self/cgroup` says the process is, for the hierarchy that accounts for memory.
fn parse_membership(text: &str) -> Option<(Layout, String)> {
    let mut unified = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some((Layout::V1, path.to_owned()));
        }
        if controllers.is_empty() {
            unified = Some((Layout::V2, path.to_owned()));
        }
    }
    unified
}

fn parse_machine(text: &str) -> Option<Usage> {
    let (total, available) = (field(text, "MemTotal:")?, field(text, "MemAvailable:")?);
    Usage::new(total.saturating_sub(available) * 1024, total * 1024)
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == name).then(|| words.next()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
pub(super) mod tests;
