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

    /// What this one group uses of its own limit. The part of the page cache that nobody has touched lately does
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
pub(super) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const MEMINFO: &str = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n";

    /// A root laid out for one test, gone with it.
    pub struct Root(PathBuf);

    impl Root {
        pub fn new(files: &[(&str, &str)]) -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("carillon-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let root = Self(std::env::temp_dir().join(name));
            files.iter().for_each(|(path, text)| root.write(path, text));
            root
        }

        pub fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
            // Whole or not at all: somebody may be reading.
            let draft = path.with_extension("draft");
            fs::write(&draft, text).expect("a file");
            fs::rename(draft, path).expect("the same folder");
        }

        pub fn path(&self) -> &Path {
            &self.0
        }

        pub fn system(&self) -> System {
            System::at(&self.0)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn usage(used: u64, limit: u64) -> Option<Usage> {
        Some(Usage { used, limit })
    }

    #[test]
    fn of_a_nested_group_the_tightest_limit_counts() {
        let root = Root::new(&[
            ("proc/self/cgroup", "0::/outer/inner\n"),
            ("sys/fs/cgroup/outer/memory.max", "1000\n"),
            ("sys/fs/cgroup/outer/memory.current", "900\n"),
            ("sys/fs/cgroup/outer/inner/memory.max", "800\n"),
            ("sys/fs/cgroup/outer/inner/memory.current", "400\n"),
        ]);
        assert_eq!(root.system().container(), usage(900, 1000));
        root.write("sys/fs/cgroup/outer/inner/memory.current", "790\n");
        assert_eq!(root.system().container(), usage(790, 800));
    }

    #[test]
    fn max_is_no_limit_but_one_further_out_may_be() {
        let root = Root::new(&[
            ("proc/self/cgroup", "0::/pod/app\n"),
            ("sys/fs/cgroup/pod/app/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/app/memory.current", "400\n"),
        ]);
        assert_eq!(root.system().container(), None);
        root.write("sys/fs/cgroup/pod/memory.max", "1000");
        root.write("sys/fs/cgroup/pod/memory.current", "500");
        assert_eq!(root.system().container(), usage(500, 1000));
    }

    #[test]
    fn a_container_finds_its_group_at_the_top_whatever_its_path_is_called() {
        for membership in ["0::/\n", "0::/../../elsewhere\n", "0::/kubepods/pod1/container\n"] {
            let root = Root::new(&[
                ("proc/self/cgroup", membership),
                ("sys/fs/cgroup/memory.max", "1000"),
                ("sys/fs/cgroup/memory.current", "250"),
            ]);
            assert_eq!(root.system().container(), usage(250, 1000), "{membership}");
        }
    }

    #[test]
    fn the_first_version_is_understood_and_its_huge_number_means_none() {
        let root = Root::new(&[
            ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/1\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "600\n"),
        ]);
        assert_eq!(root.system().container(), None);
        root.write("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "2000\n");
        root.write("sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes", "600\n");
        assert_eq!(root.system().container(), usage(600, 2000));
    }

    #[test]
    fn cache_that_would_go_first_is_not_in_use() {
        let root = Root::new(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000"),
            ("sys/fs/cgroup/memory.current", "990"),
            ("sys/fs/cgroup/memory.stat", "anon 300\ninactive_file 600\nactive_file 90\n"),
        ]);
        assert_eq!(root.system().container(), usage(390, 1000));
    }

    #[test]
    fn files_that_are_missing_or_say_something_else_are_absent_numbers() {
        assert_eq!(Root::new(&[]).system().read(), Reading::default());
        let root = Root::new(&[
            ("proc/self/cgroup", "nonsense\n"),
            ("proc/meminfo", "MemTotal: many kB\n"),
            ("proc/self/status", "VmRSS:\n"),
        ]);
        assert_eq!(root.system().read(), Reading::default());
        let root = Root::new(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "0")]);
        assert_eq!(root.system().container(), None);
    }

    #[test]
    fn the_worst_ratio_counts_and_says_whose_it_is() {
        let root = Root::new(&[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/meminfo", MEMINFO),
            ("proc/self/status", "Name:\tnode\nVmRSS:\t     120 kB\n"),
        ]);
        let mut reading = root.system().read();
        assert_eq!((reading.machine, reading.resident), (usage(600 * 1024, 1000 * 1024), Some(120 * 1024)));
        let all = MemorySources::default();
        assert_eq!(reading.pressure(all), None, "of 600 kB in use, 120 are ours");
        root.write("proc/self/status", "Name:\tnode\nVmRSS:\t     150 kB\n");
        reading = root.system().read();
        assert_eq!(reading.pressure(all), Some(Pressure { ratio: 0.6, source: PressureSource::Machine }));
        // A limit below the physical memory.
        root.write("sys/fs/cgroup/memory.max", "204800");
        root.write("sys/fs/cgroup/memory.current", "163840");
        let limited = root.system().read();
        assert_eq!(limited.pressure(all), Some(Pressure { ratio: 0.8, source: PressureSource::Container }));
        assert_eq!(
            limited.pressure(MemorySources { container: false, ..all }),
            Some(Pressure { ratio: 0.6, source: PressureSource::Machine })
        );
        assert_eq!(limited.pressure(MemorySources { container: false, machine: false, heap: true }), None);
        reading.heap = usage(9, 10);
        assert_eq!(reading.pressure(all), Some(Pressure { ratio: 0.9, source: PressureSource::Heap }));
        assert_eq!(
            reading.pressure(MemorySources { heap: false, ..all }),
            Some(Pressure { ratio: 0.6, source: PressureSource::Machine })
        );
        assert_eq!(Reading::default().pressure(all), None);
        // Where nothing tells how much of it is ours, the machine's does not count.
        assert_eq!(Reading { resident: None, heap: None, ..reading }.pressure(all), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_system_tells_of_itself() {
        let reading = System::default().read();
        assert!(reading.resident.is_some_and(|bytes| bytes > 100_000), "{reading:?}");
        assert!(reading.machine.is_some_and(|usage| usage.ratio() > 0.0 && usage.ratio() <= 1.0), "{reading:?}");
    }
}
