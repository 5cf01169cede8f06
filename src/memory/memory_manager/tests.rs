//! Tests of `memory_manager`.

use std::sync::mpsc;

use super::*;
use crate::memory::sources::PressureSource;
use crate::memory::sources::tests::Root;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq)]
enum Told {
    Cleaned(ReclaimLevel),
    Degraded(DegradationLevel, PressureSource),
    Restored,
}

/// Tells what it was asked to do; cleans up never unless it is urgent.
struct Effects {
    told: mpsc::Sender<Told>,
    cleanup_interval: Duration,
    heap: Mutex<Vec<oneshot::Sender<Usage>>>,
}

impl MemoryEffects for Arc<Effects> {
    fn service_usage(&self) -> ServiceUsage {
        ServiceUsage::default()
    }
    fn cleanup_interval(&self) -> Duration {
        self.cleanup_interval
    }
    fn measure_heap(&self, answer: oneshot::Sender<Usage>) {
        self.heap.lock().expect("no panic").push(answer);
    }
    fn degrade(&self, change: &LevelChange) {
        let _ = self.told.send(Told::Degraded(change.level, change.pressure.source));
    }
    fn restore(&self) {
        let _ = self.told.send(Told::Restored);
    }
    fn clean_up(&self, depth: ReclaimLevel) -> Reclaimed {
        let _ = self.told.send(Told::Cleaned(depth));
        Reclaimed::default()
    }
    fn leak_found(&self, _: &Leak) {}
    fn measured(&self, _: &Reading) {}
}

fn start(root: &Root, cleanup_interval: Duration) -> (MemoryManager, Arc<Effects>, mpsc::Receiver<Told>) {
    let (told, heard) = mpsc::channel();
    let effects = Arc::new(Effects { told, cleanup_interval, heap: Mutex::default() });
    let settings = Settings {
        thresholds: Thresholds { high: 0.85, critical: 0.95 },
        dwell: Duration::from_millis(20),
        sources: MemorySources::default(),
        system_root: root.path().to_owned(),
    };
    let manager = MemoryManager::start_monitoring(settings, effects.clone(), Dispatch::none());
    (manager.expect("a thread"), effects, heard)
}

fn limited() -> Root {
    Root::new(&[
        ("proc/self/cgroup", "0::/\n"),
        ("sys/fs/cgroup/memory.max", "1000"),
        ("sys/fs/cgroup/memory.current", "100"),
    ])
}

#[test]
fn a_container_that_fills_up_degrades_and_recovers_step_by_step() {
    use DegradationLevel::*;
    let root = limited();
    let (manager, _, heard) = start(&root, PATIENCE * 100);
    root.write("sys/fs/cgroup/memory.current", "960");
    let next = || heard.recv_timeout(PATIENCE).expect("it goes on");
    assert_eq!(next(), Told::Degraded(Critical, PressureSource::Container));
    assert_eq!(next(), Told::Cleaned(ReclaimLevel::Emergency));
    assert_eq!(manager.pressure(), Some(Pressure { ratio: 0.96, source: PressureSource::Container }));
    root.write("sys/fs/cgroup/memory.current", "100");
    for level in [Severe, Moderate, Light, Normal] {
        assert_eq!(next(), Told::Degraded(level, PressureSource::Container));
    }
    manager.join();
    assert!(heard.try_recv().is_err(), "what is normal needs no restoring");
}

#[test]
fn a_report_is_decided_on_before_the_call_returns_and_undone_at_the_end() {
    let (manager, _, heard) = start(&limited(), PATIENCE * 100);
    manager.handle_memory_pressure(0.9, 0.85);
    assert_eq!(manager.level(), DegradationLevel::Moderate);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Told::Degraded(DegradationLevel::Moderate, PressureSource::Report)));
    manager.join();
    manager.join();
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [Told::Restored]);
}

#[test]
fn cleaning_up_is_routine_while_all_is_well() {
    let (manager, _, heard) = start(&limited(), Duration::from_millis(1));
    for _ in 0..3 {
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(Told::Cleaned(ReclaimLevel::Routine)));
    }
    manager.join();
}

#[test]
fn v8_is_asked_once_until_it_answers_and_its_answer_counts() {
    let (manager, effects, heard) = start(&limited(), Duration::from_millis(1));
    for _ in 0..5 {
        heard.recv_timeout(PATIENCE).expect("state go by");
    }
    let asked = std::mem::take(&mut *effects.heap.lock().expect("no panic"));
    let [answer] = <[_; 1]>::try_from(asked).expect("asked once");
    answer.send(Usage { used: 99, limit: 100 }).expect("the manager waits");
    let degraded = heard.iter().find(|told| matches!(told, Told::Degraded(..)));
    assert_eq!(degraded, Some(Told::Degraded(DegradationLevel::Critical, PressureSource::Heap)));
    manager.join();
}

#[test]
fn the_end_does_not_wait_for_the_next_round() {
    let (told, _heard) = mpsc::channel();
    let effects = Arc::new(Effects { told, cleanup_interval: PATIENCE, heap: Mutex::default() });
    let settings = Settings {
        thresholds: Thresholds { high: 0.85, critical: 0.95 },
        dwell: PATIENCE,
        sources: MemorySources::default(),
        system_root: PathBuf::from("/nowhere"),
    };
    let started = Instant::now();
    for _ in 0..20 {
        let settings = settings.clone();
        let manager = MemoryManager::start_monitoring(settings, effects.clone(), Dispatch::none());
        manager.expect("a thread").join();
    }
    assert!(started.elapsed() < MEASURE_INTERVAL * 10, "{:?}", started.elapsed());
}
