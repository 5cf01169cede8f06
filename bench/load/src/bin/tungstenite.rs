//! What an application on tokio-tungstenite does: a task and a channel per connection, messages built once and shared.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use carillon_bench::control::{Order, greeting, message, reply};
use carillon_bench::ledger::{EVERYBODY, Topic};
use carillon_bench::token::Signer;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

const BACKLOG: u32 = 4096;
/// Not the default of 128 KiB, which every connection would keep.
const READ_BUFFER: usize = 4096;

/// Everybody's channel, by topic and by the connection's number.
type Subscribers = Arc<Mutex<HashMap<Topic, HashMap<u64, UnboundedSender<Message>>>>>;

#[tokio::main]
async fn main() -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    println!(r#"{{"port":{},"runtime":"Rust"}}"#, listener.local_addr()?.port());
    let subscribers = Subscribers::default();
    let signer = Arc::new(Signer::new(&std::env::var("BENCH_SECRET").unwrap_or_default()));
    let publisher = Arc::clone(&subscribers);
    thread::spawn(move || obey(&publisher));
    for number in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (subscribers, signer) = (Arc::clone(&subscribers), Arc::clone(&signer));
        tokio::spawn(async move {
            let topics = Mutex::new(vec![EVERYBODY]);
            // A connection that fails is gone like one that is closed.
            let _ = serve(number, stream, &signer, &subscribers, &topics).await;
            let mut all = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            for topic in topics.into_inner().unwrap_or_default() {
                all.entry(topic).or_default().remove(&number);
            }
        });
    }
    Ok(())
}

// tungstenite defines the type of a refusal, large as it is.
#[allow(clippy::result_large_err)]
async fn serve(
    number: u64,
    stream: TcpStream,
    signer: &Signer,
    subscribers: &Subscribers,
    topics: &Mutex<Vec<Topic>>,
) -> Result<(), Error> {
    let mut user = None;
    let accept = |request: &Request, response: Response| {
        let token = request.uri().query().and_then(|query| query.strip_prefix("token="));
        user = token.and_then(|token| signer.user(token));
        if user.is_some() {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::UNAUTHORIZED;
        Err(refusal)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let socket = accept_hdr_async_with_config(stream, accept, Some(config)).await?;
    let (sink, mut source) = socket.split();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(write(sink, receiver));
    let subscribe = |topic| {
        let mut all = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(topic).or_default().insert(number, sender.clone());
    };
    subscribe(EVERYBODY);
    let _ = sender.send(Message::text(greeting(&user.unwrap_or_default())));
    while let Some(message) = source.next().await.transpose()? {
        let Message::Text(text) = message else { continue };
        let Some((answer, asked)) = reply(text.as_bytes()) else { continue };
        asked.iter().copied().for_each(subscribe);
        topics.lock().unwrap_or_else(PoisonError::into_inner).extend(asked);
        let _ = sender.send(Message::text(answer));
    }
    Ok(())
}

/// A task of its own: polling the reading half for every message that is sent would cost more than sending it.
async fn write(
    mut sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut receiver: UnboundedReceiver<Message>,
) -> Result<(), Error> {
    while let Some(message) = receiver.recv().await {
        sink.feed(message).await?;
        while let Ok(message) = receiver.try_recv() {
            sink.feed(message).await?;
        }
        sink.flush().await?;
    }
    Ok(())
}

/// Reads the orders until standard input ends, and the process with it.
fn obey(subscribers: &Subscribers) {
    let mut filler = String::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let all = || subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        match serde_json::from_str(&line) {
            Ok(Order::Filler { text }) => filler = text,
            Ok(Order::Usage) => println!(r#"{{"connections":{}}}"#, all().get(&EVERYBODY).map_or(0, HashMap::len)),
            Ok(Order::Publish { topic, n, count }) => {
                let texts: Vec<Utf8Bytes> =
                    (n..n + count).map(|number| message(topic, number, &filler).into()).collect();
                for sender in all().get(&topic).into_iter().flat_map(HashMap::values) {
                    texts.iter().for_each(|text| drop(sender.send(Message::Text(text.clone()))));
                }
            }
            Err(error) => eprintln!("{error}"),
        }
    }
    std::process::exit(0);
}
