//! What the tests of the whole service share: a service on a port of its own, a host that records, and clients.
//!
//! Nothing here sleeps: waiting is for a frame, an event or a condition, and fails after [`PATIENCE`].
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

pub mod client;
pub mod heap;
pub mod host;
pub mod signing;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carillon::application::interface::LifecycleState;
use carillon::authenticator::{KeyMaterial, TokenRules, TokenVerifier};
use carillon::config::{RuntimeConfig, RuntimeValues};
use carillon::core::websocket_service::WebSocketService;
use carillon::shard::command::UpgradeRequest;
use carillon::shard::service_options::ServiceOptions;
use carillon::transport::Source;
use carillon::transport::head_reader::HeadReader;
use carillon::types::HookKind;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::Dispatch;

pub use client::Client;
pub use host::TestHost;

/// How long anything that must happen may take, on a machine that is busy with other things.
/// The hooks of the option `preferences`.
pub const PREFERENCES: [HookKind; 2] = [HookKind::LoadPreferences, HookKind::SavePreferences];

pub const PATIENCE: Duration = Duration::from_secs(30);

const SECRET: &str = "a secret of the tests alone";

/// A running service behind a listener that does what Node does: it reads the request's head and hands the socket on.
pub struct Service {
    pub core: Arc<WebSocketService>,
    pub host: Arc<TestHost>,
    pub address: SocketAddr,
    listening: AbortHandle,
}

impl Service {
    /// One shard, every message at once and in a frame of its own.
    pub async fn start() -> Self {
        Self::with(TestHost::new(), |_| {}).await
    }

    pub async fn with(host: TestHost, configure: impl FnOnce(&mut ServiceOptions)) -> Self {
        Self::logging(host, Dispatch::none(), configure).await
    }

    pub async fn logging(host: TestHost, dispatch: Dispatch, configure: impl FnOnce(&mut ServiceOptions)) -> Self {
        let mut options = ServiceOptions { threads: 1, ..ServiceOptions::default() };
        options.runtime = RuntimeValues { batch_size: 1, max_connections_per_user: 100_000, ..options.runtime };
        options.hooks.extend(host.answers_look_ups().then_some(HookKind::LookupUser));
        configure(&mut options);
        let host = Arc::new(host);
        let runtime = Arc::new(RuntimeConfig::new(options.runtime));
        let core = WebSocketService::new(host.clone(), runtime, 200);
        core.start(options, verifier(), dispatch).expect("the service starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let accepting = core.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(hand_on(stream, accepting.clone()));
            }
        });
        Self { core, host, address, listening: listening.abort_handle() }
    }

    /// Shuts down and waits until that is over.
    pub async fn shutdown(&self) {
        patiently(self.begin_shutdown()).await.expect("the shutdown ends");
    }

    /// Orders the shutdown at once; what is returned tells its end.
    pub fn begin_shutdown(&self) -> oneshot::Receiver<()> {
        let (done, ended) = oneshot::channel();
        self.core.shutdown(move || {
            let _ = done.send(());
        });
        ended
    }

    /// A connected, greeted client of this user.
    pub async fn join(&self, user: &str) -> Client {
        Client::join(self.address, user, "").await
    }

    /// The same with permessage-deflate.
    pub async fn join_deflated(&self, user: &str) -> Client {
        Client::join(self.address, user, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await
    }

    /// A client that follows this bill.
    pub async fn follow(&self, user: &str, bill: u64) -> Client {
        let mut client = self.join(user).await;
        client.subscribe(bill).await;
        client
    }

    /// Waits until no connection is left, and sees that nothing is left of any.
    pub async fn empties(&self) {
        eventually(|| self.core.statistics().active_connections == 0).await;
        eventually(|| self.core.sizes().buffers == 0).await;
        let counts = self.core.counts();
        assert_eq!((counts.users, counts.bills, counts.subscriptions, counts.subscribed_users), (0, 0, 0, 0));
    }

    pub fn is_running(&self) -> bool {
        self.core.state() == LifecycleState::Running
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.core.stop();
        self.listening.abort();
    }
}

/// Reads the head as an HTTP server would, and hands the socket to the service.
async fn hand_on(mut stream: TcpStream, core: Arc<WebSocketService>) {
    let mut reader = HeadReader::default();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = stream.read(&mut bytes).await else { return };
        match reader.push(&bytes[..count]) {
            Ok(None) => {}
            Ok(Some((head, early))) => {
                let Ok(stream) = stream.into_std() else { return };
                // Some tests count bytes from the moment the client is let in.
                drop(bytes);
                core.accept(UpgradeRequest { source: Source::Descriptor(stream.into()), head, early, peer: None });
                return;
            }
            Err(fault) => {
                let _ = stream.write_all(&fault.response()).await;
                return;
            }
        }
    }
}

/// A token that lets this user in for an hour.
pub fn token(user: &str) -> String {
    token_with(&json!({ "user_id": user, "exp": now() + 3600 }))
}

pub fn token_with(claims: &serde_json::Value) -> String {
    signing::hs256_token(SECRET, claims)
}

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

pub async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

/// Waits for a condition that raises no event.
pub async fn eventually(condition: impl Fn() -> bool) {
    patiently(async {
        let mut turn = tokio::time::interval(Duration::from_millis(1));
        while !condition() {
            turn.tick().await;
        }
    })
    .await;
}

fn verifier() -> Arc<TokenVerifier> {
    let rules = TokenRules {
        key: KeyMaterial::Secret(SECRET.into()),
        algorithms: None,
        user_id_claim: "user_id".into(),
        issuer: None,
        audience: None,
    };
    Arc::new(TokenVerifier::new(rules).expect("a verifier"))
}
