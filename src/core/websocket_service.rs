//! The orchestrator: lifecycle and shards. Publishing is in `publishing`, what can be asked of it in `readings`, what the
//! memory manager does to it in `memory_effects`.
//!
//! One per service object, for as long as that lives; a run from `start` to the end of `shutdown` has tables and
//! shards of its own. Called on the application's thread; never waits for a shard.

mod memory_effects;
mod publishing;
mod readings;
mod sizes;

pub use sizes::{Counts, Sizes};

use std::collections::hash_map::RandomState;
use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tracing::{Dispatch, info, warn};

use crate::application::interface::{Application, Event, EventKind, LifecycleState};
use crate::application::panic_guard::PanicGuarded;
use crate::authenticator::TokenVerifier;
use crate::config::{RuntimeConfig, RuntimeValues};
use crate::error::{Error, ErrorKind, Result};
use crate::hub::router::Router;
use crate::hub::subscription_manager::ShardSet;
use crate::memory::memory_manager::MemoryManager;
use crate::monitoring::counters::{DropReason, RejectionReason};
use crate::monitoring::statistics_collector::StatisticsCollector;
use crate::shard::command::{Command, Distribution, PortSocket, UpgradeRequest};
use crate::shard::context::RunContext;
use crate::shard::handle::ShardHandle;
use crate::shard::run_end::RunEnd;
use crate::shard::service_options::ServiceOptions;
use crate::shard::supervisor;
use crate::transport::handshake::Rejection;
use crate::transport::listener::OpenPort;
use crate::types::{BillId, ShardId, UnixMillis};
use crate::utils::LruCache;

pub struct WebSocketService {
    this: Weak<Self>,
    host: Arc<dyn Application>,
    statistics: Arc<StatisticsCollector>,
    runtime: Arc<RuntimeConfig>,
    /// Read by publishers for as long as they publish: a shutdown orders the shards to drain behind what was accepted.
    life: RwLock<Lifecycle>,
    /// Bill updates let through lately.
    dedupe: Mutex<LruCache<UpdateKey, ()>>,
    hashers: [RandomState; 2],
    /// Until when refused publishes are only counted, in milliseconds since `created`.
    overload_reported_until: AtomicU64,
    created: Instant,
    /// Has the system refuse the thread that waits for the end of a shutdown.
    #[cfg(test)]
    is_short_of_threads: std::sync::atomic::AtomicBool,
}

/// A bill and two independent hashes of the update's text: equal for equal content only.
type UpdateKey = (BillId, u64, u64);

enum Lifecycle {
    Stopped,
    Running(Arc<Runtime>),
    /// The thread waits for the shards to end.
    Stopping(Arc<Runtime>, Option<JoinHandle<()>>),
}

struct Runtime {
    context: Arc<RunContext>,
    shards: Vec<ShardHandle>,
    router: Router,
    next_shard: AtomicUsize,
    memory: MemoryManager,
    /// Alive as long as a shard's thread is.
    end: Weak<RunEnd>,
    /// The own port, if there is one. Locked by the application's thread, and by the last owner of the run.
    listener: Mutex<Option<OpenPort>>,
}

impl WebSocketService {
    /// `max_latency_samples` is the one option that counters need before the first run.
    pub fn new(host: Arc<dyn Application>, runtime: Arc<RuntimeConfig>, max_latency_samples: usize) -> Arc<Self> {
        let values = runtime.values();
        let service = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            host: Arc::new(PanicGuarded(host)),
            statistics: Arc::new(StatisticsCollector::new(ShardSet::CAPACITY, max_latency_samples, UnixMillis::now())),
            runtime: runtime.clone(),
            life: RwLock::new(Lifecycle::Stopped),
            dedupe: Mutex::new(LruCache::new(values.dedupe_cache_size)),
            hashers: [RandomState::new(), RandomState::new()],
            overload_reported_until: AtomicU64::new(0),
            created: Instant::now(),
            #[cfg(test)]
            is_short_of_threads: false.into(),
        });
        let weak: Weak<Self> = Arc::downgrade(&service);
        runtime.subscribe(Box::new(move |values| {
            if let Some(service) = weak.upgrade() {
                service.reconfigure(values);
            }
        }));
        service
    }

    pub fn state(&self) -> LifecycleState {
        match &*self.life.read() {
            Lifecycle::Stopped => LifecycleState::Stopped,
            Lifecycle::Running(_) => LifecycleState::Running,
            Lifecycle::Stopping(..) => LifecycleState::Stopping,
        }
    }

    /// Starts the shards.
    pub fn start(&self, options: ServiceOptions, verifier: Arc<TokenVerifier>, dispatch: Dispatch) -> Result<()> {
        let mut life = self.life.write();
        if !matches!(*life, Lifecycle::Stopped) {
            return Err(Error::new(ErrorKind::AlreadyRunning, "the service is running already"));
        }
        self.statistics.begin_history(options.base.performance_history_max_size);
        let threads = options.threads.clamp(1, ShardSet::CAPACITY);
        let context = Arc::new(RunContext::new(
            options,
            self.runtime.clone(),
            self.host.clone(),
            self.statistics.clone(),
            verifier,
            dispatch,
        ));
        let mut shards = Vec::with_capacity(threads);
        let end = Arc::new(RunEnd::default());
        for id in 0..threads {
            // `threads` was clamped to what a shard id holds.
            let id = ShardId(u8::try_from(id).unwrap_or(u8::MAX));
            let shard = supervisor::spawn(id, context.clone(), end.clone())
                .map_err(|cause| Error::new(ErrorKind::Internal, "a shard could not be started").caused_by(cause))?;
            shards.push(shard);
        }
        context.set_inboxes(shards.iter().map(ShardHandle::inbox));
        let memory = self.watch_memory(&context.options, context.dispatch.clone())?;
        let queues = shards.iter().map(|shard| shard.operations.clone()).collect();
        let router = Router::new(context.routing.clone(), context.users.clone(), queues);
        *life = Lifecycle::Running(Arc::new(Runtime {
            context,
            shards,
            router,
            next_shard: AtomicUsize::new(0),
            memory,
            end: Arc::downgrade(&end),
            listener: Mutex::default(),
        }));
        drop(life);
        info!(threads, "service started");
        self.emit_state(LifecycleState::Running);
        Ok(())
    }

    /// Tokens are checked with this from now on.
    pub fn set_verifier(&self, verifier: Arc<TokenVerifier>) {
        if let Some(run) = self.run() {
            run.context.set_verifier(verifier);
        }
    }

    /// Hands a socket that asks for an upgrade to a shard. It is dropped, and so closed, if the service is not running.
    pub fn accept(&self, request: UpgradeRequest) {
        if let Some(run) = self.run() {
            run.dispatch_round_robin(Command::Accept(Box::new(request)));
        }
    }

    /// Serves a port that was bound, until the run ends. One at a time.
    pub fn listen(&self, port: TcpListener, tls: Option<Arc<rustls::ServerConfig>>) -> Result<()> {
        let Some(run) = self.running() else {
            return Err(Error::new(ErrorKind::ListenFailed, "the service does not run"));
        };
        let mut listener = run.listener();
        if listener.is_some() {
            return Err(Error::new(ErrorKind::AlreadyRunning, "the service has a port already"));
        }
        let is_encrypted = tls.is_some();
        let (opened, sockets) = OpenPort::open(port, tls.as_ref(), run.shards.len());
        let distribution = if sockets.len() == run.shards.len() {
            Distribution::Local
        } else {
            let dealer = Arc::downgrade(&run);
            Distribution::RoundRobin(Arc::new(move |accepted| {
                if let Some(run) = dealer.upgrade() {
                    run.dispatch_round_robin(Command::Receive(accepted));
                }
            }))
        };
        info!(is_encrypted, sockets = sockets.len(), "listening");
        for (shard, socket) in run.shards.iter().zip(sockets) {
            shard.send(Command::StartAccepting(PortSocket { socket, distribution: distribution.clone() }));
        }
        *listener = Some(opened);
        Ok(())
    }

    /// Ends the run: everything published is written, every client gets `server_shutdown` and is closed with 1001, and connections that
    /// are left after the grace period are aborted. `done` is called on another thread when all is over, or at once if
    /// nothing runs. Calls while it is under way are the caller's to join: `done` is then dropped.
    pub fn shutdown(self: &Arc<Self>, done: impl FnOnce() + Send + 'static) {
        let mut life = self.life.write();
        let run = match &*life {
            Lifecycle::Running(run) => run.clone(),
            Lifecycle::Stopping(..) => return,
            Lifecycle::Stopped => {
                drop(life);
                return done();
            }
        };
        run.close_port();
        run.memory.stop_monitoring();
        let deadline = Instant::now() + run.context.options.base.shutdown_grace_period;
        run.command_all(|| Command::Drain { deadline });
        let (service, stopping) = (self.clone(), run.clone());
        let tell_end = move || {
            stopping.memory.join();
            tracing::dispatcher::with_default(&stopping.context.dispatch, || service.stopped());
            done();
        };
        // Moved to whichever thread tells of the end.
        let tell_end = Arc::new(Mutex::new(Some(tell_end)));
        let (waiting, telling) = (run.clone(), tell_end.clone());
        let waiter = self.spawn_waiter(move || {
            waiting.join();
            call_once(&telling);
        });
        let (waiter, failure) = match waiter {
            Ok(waiter) => (Some(waiter), None),
            Err(failure) => (None, Some(failure)),
        };
        *life = Lifecycle::Stopping(run.clone(), waiter);
        info!("service stopping");
        // Before the lock is released: the state `stopped` must not be emitted first.
        self.emit_state(LifecycleState::Stopping);
        drop(life);
        if let Some(failure) = failure {
            warn!(%failure, "no thread could be started to wait for the end of the shutdown: the last shard tells of it");
            RunEnd::then(&run.end, move || call_once(&tell_end));
        }
    }

    fn spawn_waiter(&self, wait: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        #[cfg(test)]
        if self.is_short_of_threads.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        std::thread::Builder::new().name("carillon-stop".into()).spawn(wait)
    }

    /// Ends the run without grace and waits for its threads: for the exit of the process or of a worker.
    pub fn stop(&self) {
        let before = std::mem::replace(&mut *self.life.write(), Lifecycle::Stopped);
        let (run, waiter) = match before {
            Lifecycle::Stopped => return,
            Lifecycle::Running(run) => (run, None),
            Lifecycle::Stopping(run, waiter) => (run, waiter),
        };
        run.close_port();
        run.memory.stop_monitoring();
        let now = Instant::now();
        run.command_all(|| Command::Drain { deadline: now });
        run.join();
        if let Some(waiter) = waiter {
            // It has nothing left to wait for; its panic would have nowhere to go.
            let _ = waiter.join();
        }
    }

    /// Empties caches, buffers and queues; connections and subscriptions stay.
    pub fn cleanup(&self) {
        self.dedupe().clear();
        if let Some(run) = self.run() {
            let discarded: usize = run.shards.iter().map(|shard| shard.operations.clear()).sum();
            self.statistics.shard(0).dropped(DropReason::Cleanup, u32::try_from(discarded).unwrap_or(u32::MAX));
            run.command_all(|| Command::ClearBuffers);
        }
    }

    /// Lets every shard panic where nothing contains it.
    #[cfg(test)]
    pub(crate) fn break_shards(&self) {
        if let Some(run) = self.run() {
            run.command_all(|| Command::Break);
        }
    }

    /// A request was refused before any shard saw it.
    pub fn note_refusal(&self, rejection: &Rejection) {
        self.statistics.shard(0).rejections.add(RejectionReason::from(rejection), 1);
    }

    fn reconfigure(&self, values: RuntimeValues) {
        self.dedupe().resize(values.dedupe_cache_size);
        if let Some(run) = self.run() {
            run.command_all(|| Command::Reconfigure(values));
        }
    }

    /// The last shard has ended. A run that was stopped meanwhile has said so itself.
    fn stopped(&self) {
        {
            let mut life = self.life.write();
            if !matches!(*life, Lifecycle::Stopping(..)) {
                return;
            }
            *life = Lifecycle::Stopped;
        }
        info!("service stopped");
        self.emit_state(LifecycleState::Stopped);
    }

    fn emit_state(&self, state: LifecycleState) {
        if self.host.listens(EventKind::StateChange) {
            self.host.emit(Event::StateChange(state));
        }
    }

    /// The run, as long as it accepts publishes.
    fn running(&self) -> Option<Arc<Runtime>> {
        match &*self.life.read() {
            Lifecycle::Running(run) => Some(run.clone()),
            Lifecycle::Stopped | Lifecycle::Stopping(..) => None,
        }
    }

    /// The run, until its last connection has gone.
    fn run(&self) -> Option<Arc<Runtime>> {
        match &*self.life.read() {
            Lifecycle::Running(run) | Lifecycle::Stopping(run, _) => Some(run.clone()),
            Lifecycle::Stopped => None,
        }
    }

    fn elapsed_ms(&self) -> u64 {
        millis(self.created.elapsed())
    }

    fn dedupe(&self) -> MutexGuard<'_, LruCache<UpdateKey, ()>> {
        self.dedupe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runtime {
    /// To the next shard in turn.
    fn dispatch_round_robin(&self, command: Command) {
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed);
        if let Some(shard) = self.shards.get(turn % self.shards.len()) {
            shard.send(command);
        }
    }

    /// The system refuses connections from now on.
    fn close_port(&self) {
        let listener = self.listener().take();
        drop(listener);
    }

    fn listener(&self) -> MutexGuard<'_, Option<OpenPort>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command_all(&self, command: impl Fn() -> Command) {
        for shard in &self.shards {
            // A shard that has ended has nothing left to do.
            shard.send(command());
        }
    }

    fn join(&self) {
        self.shards.iter().for_each(ShardHandle::join);
        self.memory.join();
    }
}

fn call_once(call: &Mutex<Option<impl FnOnce()>>) {
    let call = call.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(call) = call {
        call();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
