//! More clients than there are places, and what each of them gets.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::socket::{Running, answer, connect, request, rest, start};
use super::until;
use crate::serve::limits::Limits;
use crate::serve::listener::Ended;

/// A connection from another address of this machine, where there are others.
async fn connect_from(running: &Running, address: &str, bytes: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).ok()?;
    let mut stream = socket.connect(running.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    Some(stream)
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_a_new_one() {
    let running =
        start(Limits { max_connections: 2, max_connections_per_address: 2, ..Limits::default() }).await;
    let mut idle = Vec::new();
    for name in ["one", "two"] {
        let mut stream = connect(&running, &request(name)).await;
        answer(&mut stream).await;
        idle.push(stream);
    }
    let mut third = connect(&running, &request("three")).await;
    assert!(answer(&mut third).await.ends_with(r#"{"translatedText":"THREE"}"#));
    // The one that was idle for longer is gone, the other is served.
    assert_eq!(rest(idle.remove(0)).await, "");
    idle[0].write_all(request("again").as_bytes()).await.unwrap();
    assert!(answer(&mut idle[0]).await.ends_with(r#"{"translatedText":"AGAIN"}"#));
}

#[tokio::test]
async fn an_address_that_opens_every_connection_does_not_keep_others_out() {
    let running =
        start(Limits { max_connections: 16, max_connections_per_address: 16, ..Limits::default() }).await;
    let mut halves = Vec::new();
    for _ in 0..16 {
        halves.push(connect(&running, "POST /translate HTTP/1.1\r\nhost: ").await);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let Some(mut other) = connect_from(&running, "127.0.0.2", &request("me too")).await else { return };
    let answered = tokio::time::timeout(Duration::from_secs(5), answer(&mut other))
        .await
        .expect("the crowd keeps it out");
    assert!(answered.ends_with(r#"{"translatedText":"ME TOO"}"#));
    // More of the crowd displace one another, not the other.
    for _ in 0..16 {
        halves.push(connect(&running, "POST /translate HTTP/1.1\r\nhost: ").await);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    other.write_all(request("still here").as_bytes()).await.unwrap();
    assert!(answer(&mut other).await.ends_with(r#"{"translatedText":"STILL HERE"}"#));
}

#[tokio::test]
async fn an_address_whose_share_is_at_work_is_told_so_and_others_are_served() {
    let running =
        start(Limits { max_connections: 8, max_connections_per_address: 2, ..Limits::default() }).await;
    running.record.gate.close();
    let mut busy = [connect(&running, &request("one")).await, connect(&running, &request("two")).await];
    until("both are accepted", || running.record.admitted.load(Ordering::Relaxed) >= 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let refused = rest(connect(&running, &request("three")).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(
        refused.contains("the limit is 2 connections from one address")
            && refused.contains("connection: close"),
        "{refused}"
    );
    let other = connect_from(&running, "127.0.0.2", &request("other")).await;
    running.record.gate.open();
    if let Some(mut other) = other {
        assert!(answer(&mut other).await.ends_with(r#"{"translatedText":"OTHER"}"#));
    }
    for stream in &mut busy {
        assert!(answer(stream).await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn connections_that_the_kernel_has_accepted_are_answered_when_the_server_stops() {
    let running =
        start(Limits { max_connections: 1, max_connections_per_address: 2, ..Limits::default() }).await;
    running.record.gate.close();
    let mut busy = connect(&running, &request("busy")).await;
    until("it is being decoded", || running.record.admitted.load(Ordering::Relaxed) == 1).await;
    let mut waiting = Vec::new();
    for n in 0..50 {
        waiting.push(connect(&running, &request(&format!("waiting {n}"))).await);
    }
    running.stop.notify_one();
    for stream in waiting {
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"draining\""), "{answer:?}");
        assert!(
            answer.contains("connection: close\r\n") && answer.contains("retry-after: 1\r\n"),
            "{answer}"
        );
    }
    running.record.gate.open();
    assert!(answer(&mut busy).await.ends_with(r#"{"translatedText":"BUSY"}"#));
    assert_eq!(running.ended.await.unwrap(), Ended::Drained);
}

#[tokio::test]
async fn slow_bodies_together_take_no_more_memory_than_they_may() {
    let limits = Limits { max_payload: 1_000_000, max_body_memory: 4_000_000, ..Limits::default() };
    let running = start(limits).await;
    let head = "POST /translate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    let part = format!("{head}{}", " ".repeat(900_000));
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(connect(&running, &part).await);
    }
    let mut refused = 0;
    for stream in std::mem::take(&mut slow) {
        match tokio::time::timeout(Duration::from_millis(100), stream.readable()).await {
            Ok(_) => {
                let answer = rest(stream).await;
                assert!(
                    answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"),
                    "{answer}"
                );
                assert!(answer.contains("bodies_full"), "{answer}");
                refused += 1;
            }
            Err(_) => slow.push(stream),
        }
    }
    // 3 of the 4 MB are for large bodies, and a body takes as much room as it has grown to.
    assert!((16..=18).contains(&refused), "{refused} of 20 refused");
    let metrics =
        rest(connect(&running, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await).await;
    let held = metrics
        .lines()
        .find_map(|line| line.strip_prefix("s2s_http_request_body_bytes "))
        .unwrap()
        .parse::<usize>()
        .unwrap();
    assert!((1_000_000..=3_000_000).contains(&held), "{held}");
    // Small requests go on,
    let mut small = connect(&running, &request(&"small ".repeat(60))).await;
    assert!(answer(&mut small).await.starts_with("HTTP/1.1 200 "));
    // and the memory comes back.
    drop(slow);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let whole = request(&"x".repeat(900_000));
    let mut large = connect(&running, &whole).await;
    assert!(
        answer(&mut large).await.starts_with("HTTP/1.1 422 "),
        "its tokens are too many, its bytes are not"
    );
}
