//! Faults that only a socket has, on loopback with short timeouts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use s2s_runtime::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::scripted::{Record, Scripted};
use super::{server, until};
use crate::serve::limits::Limits;
use crate::serve::listener::{Ended, bind, serve};
use crate::serve::model::Card;

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) record: Arc<Record>,
    pub(super) stop: Arc<Notify>,
    pub(super) cut: Arc<Notify>,
    pub(super) ended: JoinHandle<Ended>,
}

pub(super) async fn start(limits: Limits) -> Running {
    start_with(limits, None).await
}

pub(super) async fn start_with(limits: Limits, key: Option<&str>) -> Running {
    let (server, record) = server(
        &limits,
        Scripted { card: Card { name: "m".to_owned(), ..Card::default() }, ..Scripted::default() },
        key,
    );
    let (listener, address) = bind("127.0.0.1", 0).await.unwrap();
    let (stop, cut) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (stopped, was_cut) = (Arc::clone(&stop), Arc::clone(&cut));
    let ended =
        tokio::spawn(async move { serve(listener, server, stopped.notified(), was_cut.notified()).await });
    Running { address, record, stop, cut, ended }
}

pub(super) fn request(q: &str) -> String {
    let body = format!("{{\"q\": \"{q}\", \"source\": \"en\", \"target\": \"de\"}}");
    let length = body.len();
    format!(
        "POST /translate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

pub(super) async fn connect(running: &Running, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// Everything until the server closes, which must be well before a minute.
pub(super) async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset instead of an orderly close is a close too.
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut bytes))
        .await
        .expect("the connection stays open");
    String::from_utf8(bytes).unwrap()
}

/// One answer on a connection that stays open.
pub(super) async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut more = [0; 1024];
        let n = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut more))
            .await
            .expect("no answer")
            .unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&more[..n]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap()
                .parse::<usize>()
                .unwrap();
            if body.len() >= length {
                return text.into_owned();
            }
        }
    }
}

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_header_is_closed() {
    let limits = Limits { first_byte_timeout: SHORT, header_timeout: SHORT, ..Limits::default() };
    let running = start(limits).await;
    assert_eq!(rest(connect(&running, "").await).await, "");
    assert_eq!(rest(connect(&running, "POST /translate HTTP/1.1\r\nhost: ").await).await, "");
}

#[tokio::test]
async fn headers_that_dribble_do_not_win_time() {
    let running = start(Limits { header_timeout: Duration::from_millis(100), ..Limits::default() }).await;
    let mut stream = connect(&running, "GET /health HTTP/1.1\r\n").await;
    let started = Instant::now();
    while stream.write_all(b"a: b\r\n").await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(60), "the connection stays open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_body_that_dribbles_is_408_and_closes() {
    let running = start(Limits { body_timeout: Duration::from_millis(100), ..Limits::default() }).await;
    let whole = request("hello");
    let (mut read, mut write) = connect(&running, &whole[..whole.len() - 40]).await.into_split();
    let dribble = tokio::spawn(async move {
        for byte in whole.as_bytes()[whole.len() - 40..whole.len() - 1].iter() {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut text = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), read.read_to_end(&mut text))
        .await
        .expect("the connection stays open");
    assert!(text.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&text));
    dribble.abort();
}

#[tokio::test]
async fn a_connection_is_used_again_and_closed_when_idle() {
    let running = start(Limits { idle_timeout: SHORT, ..Limits::default() }).await;
    let mut stream = connect(&running, &request("one")).await;
    assert!(answer(&mut stream).await.ends_with(r#"{"translatedText":"ONE"}"#));
    stream.write_all(request("two").as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.ends_with(r#"{"translatedText":"TWO"}"#));
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn a_request_may_take_longer_than_the_idle_and_header_timeouts() {
    let limits =
        Limits { first_byte_timeout: SHORT, header_timeout: SHORT, idle_timeout: SHORT, ..Limits::default() };
    let running = start(limits).await;
    running.record.gate.close();
    let mut stream = connect(&running, &request("slow")).await;
    tokio::time::sleep(SHORT * 4).await;
    running.record.gate.open();
    assert!(answer(&mut stream).await.ends_with(r#"{"translatedText":"SLOW"}"#));
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_its_text() {
    let running = start(Limits::default()).await;
    let stream = connect(&running, &request("forever")).await;
    until("it is being decoded", || running.record.steps.load(Ordering::Relaxed) > 0).await;
    drop(stream);
    until("the text is cancelled", || running.record.cancelled.load(Ordering::Relaxed) == 1).await;
}

fn stream_request(text: &str) -> String {
    let body = format!("{{\"text_input\": \"{text}\"}}");
    let length = body.len();
    format!(
        "POST /v2/models/m/generate_stream HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_reader_who_does_not_read_a_stream_is_dropped() {
    let running = start(Limits { write_timeout: SHORT, ..Limits::default() }).await;
    let stream = connect(&running, &stream_request("forever")).await;
    until("the text is cancelled", || running.record.cancelled.load(Ordering::Relaxed) == 1).await;
    // Its decoding has ended, and others are served.
    let mut other = connect(&running, &request("next")).await;
    assert!(answer(&mut other).await.ends_with(r#"{"translatedText":"NEXT"}"#));
    running.stop.notify_one();
    assert_eq!(running.ended.await.unwrap(), Ended::Drained, "the reader holds the server");
    drop(stream);
}

#[tokio::test]
async fn a_reader_who_leaves_a_stream_cancels_its_text() {
    let running = start(Limits::default()).await;
    let mut stream = connect(&running, &stream_request("slowly forever")).await;
    // Its first token has come: a text that is still in the queue would be dropped there, without the model's
    // knowing.
    let (mut some, mut seen) = ([0; 512], String::new());
    while !seen.contains("data: ") {
        let n = stream.read(&mut some).await.unwrap();
        assert!(n > 0, "closed after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&some[..n]));
    }
    drop(stream);
    until("the text is cancelled", || running.record.cancelled.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn stopping_lets_a_stream_end() {
    let running = start(Limits::default()).await;
    running.record.gate.close();
    let stream = connect(&running, &stream_request("abc")).await;
    until("it is being decoded", || running.record.admitted.load(Ordering::Relaxed) == 1).await;
    running.stop.notify_one();
    until("new connections are refused", || std::net::TcpStream::connect(running.address).is_err()).await;
    running.record.gate.open();
    let all = rest(stream).await;
    assert!(all.contains(r#""finish_reason":"eos""#) && all.contains(r#""generated_text":"ABC""#), "{all}");
    assert_eq!(running.ended.await.unwrap(), Ended::Drained);
}

#[tokio::test]
async fn stopping_answers_what_was_accepted_closes_the_rest_and_ends() {
    let running = start(Limits::default()).await;
    running.record.gate.close();
    let idle = {
        let mut stream = connect(&running, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        answer(&mut stream).await;
        stream
    };
    let half = connect(&running, "POST /translate HTTP/1.1\r\nhost: ").await;
    let whole = request("late");
    let mut body_to_come = connect(&running, &whole[..whole.len() - 10]).await;
    let in_flight = connect(&running, &request("busy")).await;
    until("it is being decoded", || running.record.admitted.load(Ordering::Relaxed) == 1).await;
    running.stop.notify_one();
    assert_eq!(rest(idle).await, "");
    assert_eq!(rest(half).await, "");
    assert!(TcpStream::connect(running.address).await.is_err(), "new connections are still taken");
    body_to_come.write_all(&whole.as_bytes()[whole.len() - 10..]).await.unwrap();
    running.record.gate.open();
    assert!(rest(in_flight).await.ends_with(r#"{"translatedText":"BUSY"}"#));
    assert!(rest(body_to_come).await.ends_with(r#"{"translatedText":"LATE"}"#));
    assert_eq!(running.ended.await.unwrap(), Ended::Drained);
}

#[tokio::test]
async fn the_grace_time_and_a_second_signal_end_what_does_not_end_itself() {
    let running = start(Limits { grace: SHORT, ..Limits::default() }).await;
    let endless = connect(&running, &request("forever")).await;
    until("it is being decoded", || running.record.steps.load(Ordering::Relaxed) > 0).await;
    running.stop.notify_one();
    assert_eq!(rest(endless).await, "");
    assert_eq!(running.ended.await.unwrap(), Ended::Cut(1));

    let running = start(Limits::default()).await;
    let endless = connect(&running, &request("forever")).await;
    until("it is being decoded", || running.record.steps.load(Ordering::Relaxed) > 0).await;
    running.stop.notify_one();
    running.cut.notify_one();
    assert_eq!(rest(endless).await, "");
    assert_eq!(running.ended.await.unwrap(), Ended::Cut(1));
}

#[tokio::test]
async fn a_port_in_use_and_a_strange_host_cannot_be_bound() {
    let (_listener, address) = bind("127.0.0.1", 0).await.unwrap();
    let error = bind("127.0.0.1", address.port()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bind);
    assert!(error.help_text().unwrap().contains("--port"));
    assert_eq!(bind("203.0.113.7", 0).await.unwrap_err().kind(), ErrorKind::Bind);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let running =
        start(Limits { max_connections: 1, max_connections_per_address: 2, ..Limits::default() }).await;
    running.record.gate.close();
    let mut first = connect(&running, &request("one")).await;
    until("it is being decoded", || running.record.admitted.load(Ordering::Relaxed) == 1).await;
    let mut second = connect(&running, &request("two")).await;
    assert!(
        tokio::time::timeout(SHORT, second.readable()).await.is_err(),
        "the second is answered beside the first"
    );
    running.record.gate.open();
    assert!(answer(&mut first).await.ends_with(r#"{"translatedText":"ONE"}"#));
    // The first stays open, but is quiet now.
    assert!(answer(&mut second).await.ends_with(r#"{"translatedText":"TWO"}"#));
    assert_eq!(rest(first).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_on_a_queue_of_64_get_200_or_429_and_nothing_else() {
    let running = start(Limits { max_queue: 64, max_batch_size: 8, ..Limits::default() }).await;
    running.record.gate.close();
    let address = running.address;
    let clients: Vec<_> = (0..200)
        .map(|n| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request(&format!("client {n}")).as_bytes()).await.unwrap();
                (n, answer(&mut stream).await)
            })
        })
        .collect();
    until("those over the queue and the batch are answered", || {
        clients.iter().filter(|c| c.is_finished()).count() >= 200 - 64 - 8
    })
    .await;
    running.record.gate.open();
    let (mut served, mut refused) = (0, 0);
    for client in clients {
        let (n, answer) = client.await.unwrap();
        if answer.starts_with("HTTP/1.1 200 ") {
            assert!(answer.ends_with(&format!("{{\"translatedText\":\"CLIENT {n}\"}}")), "{answer}");
            served += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1"), "{answer}");
            refused += 1;
        }
    }
    assert!((64..=72).contains(&served) && served + refused == 200, "{served} served, {refused} refused");
}
