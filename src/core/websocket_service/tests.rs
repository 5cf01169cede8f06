//! Ends of a run that no peer can bring about.

use std::sync::mpsc;

use super::*;
use crate::application::interface::{Answer, HookCall};
use crate::authenticator::{KeyMaterial, TokenRules};

const PATIENCE: Duration = Duration::from_secs(30);

/// Tells how the state changes.
struct States(mpsc::Sender<LifecycleState>);

impl Application for States {
    fn listens(&self, kind: EventKind) -> bool {
        kind == EventKind::StateChange
    }
    fn emit(&self, event: Event) {
        if let Event::StateChange(state) = event {
            let _ = self.0.send(state);
        }
    }
    fn call_hook(&self, _: HookCall, _: Answer) {}
}

fn started(threads: usize) -> (Arc<WebSocketService>, mpsc::Receiver<LifecycleState>) {
    let (told, states) = mpsc::channel();
    let runtime = Arc::new(RuntimeConfig::new(RuntimeValues::default()));
    let service = WebSocketService::new(Arc::new(States(told)), runtime, 10);
    start(&service, threads);
    (service, states)
}

fn start(service: &WebSocketService, threads: usize) {
    let rules = TokenRules {
        key: KeyMaterial::Secret("a secret of the tests alone".into()),
        algorithms: None,
        user_id_claim: "user_id".into(),
        issuer: None,
        audience: None,
    };
    let options = ServiceOptions { threads, ..ServiceOptions::default() };
    service
        .start(options, Arc::new(TokenVerifier::new(rules).expect("a verifier")), Dispatch::none())
        .expect("it starts");
}

fn shut_down(service: &Arc<WebSocketService>) -> mpsc::Receiver<()> {
    let (done, ended) = mpsc::channel();
    service.shutdown(move || {
        let _ = done.send(());
    });
    ended
}

#[test]
fn a_shutdown_settles_and_the_service_starts_again_when_no_thread_can_be_started_to_wait_for_its_end() {
    use LifecycleState::{Running, Stopped, Stopping};
    for threads in [1, 3] {
        let (service, states) = started(threads);
        service.is_short_of_threads.store(true, Ordering::Relaxed);
        let ended = shut_down(&service);
        ended.recv_timeout(PATIENCE).expect("the end is told");
        assert_eq!(service.state(), Stopped);
        service.is_short_of_threads.store(false, Ordering::Relaxed);
        start(&service, threads);
        shut_down(&service).recv_timeout(PATIENCE).expect("the end is told");
        let told: Vec<_> = states.try_iter().collect();
        assert_eq!(told, [Running, Stopping, Stopped, Running, Stopping, Stopped]);
    }
}

#[test]
fn stopping_at_once_works_while_the_last_shard_is_to_tell_of_the_end() {
    let (service, _states) = started(2);
    service.is_short_of_threads.store(true, Ordering::Relaxed);
    let ended = shut_down(&service);
    service.stop();
    ended.recv_timeout(PATIENCE).expect("the end is told");
    assert_eq!(service.state(), LifecycleState::Stopped);
}
