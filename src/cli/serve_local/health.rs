//! `serve-local --check`: asks the server that these settings belong to whether it takes requests, as the
//! health checks of containers and service managers do.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// A server that does not answer within this time is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is looked at.
const ANSWER: u64 = 4096;

/// Asks the server at `host` and `port`; one that listens everywhere is asked on loopback.
///
/// # Errors
/// [`ErrorKind::Io`] where nobody answers, [`ErrorKind::Engine`] where a server does that takes no requests.
pub(super) fn check(host: &str, port: u16) -> Result<()> {
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "::" | "[::]" => "::1",
        other => other.trim_matches(['[', ']']),
    };
    let nobody =
        |cause| Error::new(ErrorKind::Io, format!("nobody answers at {host}, port {port}")).caused_by(cause);
    let mut last = std::io::Error::other("the name has no address");
    let address = (host, port).to_socket_addrs().map_err(nobody)?;
    for address in address {
        match ask(&address) {
            Ok(status) if status == "200" => return Ok(()),
            Ok(status) => {
                return Err(Error::new(
                    ErrorKind::Engine,
                    format!("the server at {address} answers, and takes no requests: status {status}"),
                ));
            }
            Err(cause) => last = cause,
        }
    }
    Err(nobody(last))
}

/// The status of `/health`.
fn ask(address: &std::net::SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // By its address, which servers on loopback and others answer to.
    write!(stream, "GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER).read_to_string(&mut answer)?;
    let status = answer.split_ascii_whitespace().nth(1).filter(|_| answer.starts_with("HTTP/1.1 "));
    status.map(str::to_owned).ok_or_else(|| std::io::Error::other("what answers is no HTTP server"))
}
