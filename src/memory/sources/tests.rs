//! Tests of `sources`.

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
        // Whole or not at all: the file may be read meanwhile.
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
