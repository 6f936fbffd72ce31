//! Bodies of requests: read within their limits of size, time and memory.
//!
//! What has arrived is counted, never what a header claims, and all bodies in flight share one budget: many
//! clients that each stay within their own limit cannot fill the memory together.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use flate2::write::GzDecoder;
use http_body_util::BodyExt;

use super::error::{ApiError, Fault};
use super::limits::Limits;
use super::offload;

/// So many bytes of each body are not counted: a short text is read whatever the others do.
const UNCOUNTED: usize = 4 * 1024;
/// Bodies up to this size may use the last quarter of the budget, and are read on the event loop: anything
/// larger is parsed on a thread of its own.
pub(super) const SMALL: usize = 64 * 1024;
/// Most members of a gzip body. Each costs a new decoder, and an empty one is 20 bytes long.
const MEMBERS: usize = 1024;
/// Compressed bytes between two turns of the event loop; they make at most a thousand times as many.
const PIECE: usize = 4 * 1024;

/// The memory that all bodies in flight share.
#[derive(Debug)]
pub(super) struct Bodies {
    most: usize,
    held: AtomicUsize,
}

impl Bodies {
    /// A budget that has room for at least one body of the largest size.
    pub(super) fn new(limits: &Limits) -> Self {
        let most = limits.max_body_memory.max(limits.max_payload.saturating_mul(2));
        Self { most, held: AtomicUsize::new(0) }
    }

    /// Bytes in flight.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Runs `parse` where it cannot hold up other connections: a body of `bytes` that is not small on a
    /// thread.
    pub(super) async fn parsed<T: Send + 'static>(
        &self,
        bytes: usize,
        parse: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if bytes <= SMALL {
            return parse();
        }
        offload::run(parse).await?
    }
}

/// What one body takes of the budget, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    bodies: Arc<Bodies>,
    counted: usize,
}

impl Held {
    fn nothing(bodies: &Arc<Bodies>) -> Self {
        Self { bodies: Arc::clone(bodies), counted: 0 }
    }

    /// Takes what a body of `bytes` in memory needs.
    fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let wanted = bytes.saturating_sub(UNCOUNTED);
        let Some(more) = wanted.checked_sub(self.counted).filter(|&more| more > 0) else { return Ok(()) };
        let most = if bytes <= SMALL { self.bodies.most } else { self.bodies.most - self.bodies.most / 4 };
        let grown = |held: usize| held.checked_add(more).filter(|&held| held <= most);
        match self.bodies.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown) {
            Ok(_) => {
                self.counted = wanted;
                Ok(())
            }
            Err(_) => Err(ApiError::new(
                Fault::BodiesFull,
                "the server is reading too many large bodies; try again later",
            )),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.bodies.held.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

/// # Errors
/// A coding that is not read here, or several.
fn coding(headers: &HeaderMap) -> Result<Coding, ApiError> {
    let mut found = Coding::Identity;
    for (at, value) in headers.get_all(header::CONTENT_ENCODING).iter().enumerate() {
        let name = value.as_bytes().trim_ascii();
        if at == 0 && (name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip")) {
            found = Coding::Gzip;
        } else if at > 0 || !name.eq_ignore_ascii_case(b"identity") {
            let message = format!(
                "content encoding {} is not read here; send gzip or none",
                String::from_utf8_lossy(value.as_bytes())
            );
            return Err(ApiError::new(Fault::UnsupportedMediaType, message));
        }
    }
    Ok(found)
}

/// Whether the body is coded in a way that is read here.
///
/// # Errors
/// The coding, and what would be right.
pub(super) fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    coding(headers).map(|_| ())
}

/// A body that has arrived whole.
#[derive(Debug)]
pub(super) struct Received {
    /// Its bytes, decompressed.
    pub(super) bytes: Vec<u8>,
    /// What it takes of the budget; whoever keeps what the bytes say keeps this too.
    pub(super) held: Held,
}

/// Bytes that are counted before there is room for them.
#[derive(Debug)]
struct Sink {
    bytes: Vec<u8>,
    held: Held,
    most: usize,
    /// Why the last write failed.
    fault: Option<ApiError>,
}

fn too_large(most: usize) -> ApiError {
    ApiError::new(Fault::PayloadTooLarge, format!("the body is larger than {most} bytes"))
}

impl Sink {
    fn take(&mut self, more: &[u8]) -> Result<(), ApiError> {
        let length = self.bytes.len().saturating_add(more.len());
        if length > self.most {
            return Err(too_large(self.most));
        }
        if length > self.bytes.capacity() {
            let room = length.max(self.bytes.capacity() * 2).min(self.most);
            self.held.grow(room)?;
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        match self.take(more) {
            Ok(()) => Ok(more.len()),
            Err(fault) => {
                self.fault = Some(fault);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every member of a gzip body, one after the other, as RFC 1952 has it.
struct Gunzip {
    member: GzDecoder<Sink>,
    members: usize,
}

impl Gunzip {
    fn fault(&mut self, error: &io::Error) -> ApiError {
        let broken = || ApiError::new(Fault::BadRequest, format!("the body is not gzip: {error}"));
        self.member.get_mut().fault.take().unwrap_or_else(broken)
    }

    fn take(&mut self, mut compressed: &[u8]) -> Result<(), ApiError> {
        while !compressed.is_empty() {
            match self.member.write(compressed) {
                // The member has ended, and something follows it: the next one.
                Ok(0) => self.next_member()?,
                Ok(taken) => compressed = &compressed[taken..],
                Err(error) => return Err(self.fault(&error)),
            }
        }
        Ok(())
    }

    fn next_member(&mut self) -> Result<(), ApiError> {
        self.members += 1;
        if self.members >= MEMBERS {
            return Err(ApiError::new(
                Fault::BadRequest,
                format!("the gzip body has more than {MEMBERS} members"),
            ));
        }
        if let Err(error) = self.member.try_finish() {
            return Err(self.fault(&error));
        }
        let ended = self.member.get_mut();
        let empty = Sink { bytes: Vec::new(), held: Held::nothing(&ended.held.bodies), most: 0, fault: None };
        let sink = std::mem::replace(ended, empty);
        self.member = GzDecoder::new(sink);
        Ok(())
    }

    fn end(mut self) -> Result<Sink, ApiError> {
        if let Err(error) = self.member.try_finish() {
            return Err(self.fault(&error));
        }
        self.member
            .finish()
            .map_err(|error| ApiError::new(Fault::BadRequest, format!("the body is not gzip: {error}")))
    }
}

/// The whole body, within its limits of size, time and memory.
///
/// # Errors
/// `PayloadTooLarge`, without reading anything if the head already says so; `SlowBody`; `BodiesFull`; what is
/// wrong with the encoding.
pub(super) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    bodies: &Arc<Bodies>,
    limits: &Limits,
) -> Result<Received, ApiError> {
    let coding = coding(headers)?;
    if body.size_hint().lower() > limits.max_payload as u64 {
        return Err(too_large(limits.max_payload));
    }
    match tokio::time::timeout(limits.body_timeout, collect(body, coding, bodies, limits)).await {
        Ok(received) => received,
        Err(_) => Err(ApiError::new(
            Fault::SlowBody,
            format!("the body did not arrive within {:?}", limits.body_timeout),
        )),
    }
}

async fn collect(
    mut body: Body,
    coding: Coding,
    bodies: &Arc<Bodies>,
    limits: &Limits,
) -> Result<Received, ApiError> {
    let mut arrived = 0_usize;
    let mut sink =
        Sink { bytes: Vec::new(), held: Held::nothing(bodies), most: limits.max_payload, fault: None };
    let mut gunzip = None;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| ApiError::new(Fault::BadRequest, format!("the body cannot be read: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        arrived = arrived.saturating_add(data.len());
        if arrived > limits.max_payload {
            return Err(too_large(limits.max_payload));
        }
        if coding == Coding::Identity {
            sink.take(data)?;
            continue;
        }
        let gunzip = gunzip.get_or_insert_with(|| {
            let empty = Sink { bytes: Vec::new(), held: Held::nothing(bodies), most: 0, fault: None };
            Gunzip { member: GzDecoder::new(std::mem::replace(&mut sink, empty)), members: 0 }
        });
        for piece in data.chunks(PIECE) {
            gunzip.take(piece)?;
            tokio::task::yield_now().await;
        }
    }
    // A body of no bytes has nothing to decompress.
    let sink = gunzip.map_or_else(|| Ok(sink), Gunzip::end)?;
    Ok(Received { bytes: sink.bytes, held: sink.held })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(bytes: Vec<u8>, limits: &Limits) -> Result<Vec<u8>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let bodies = Arc::new(Bodies::new(limits));
        let read =
            read_body(&headers, Body::from(bytes), &bodies, limits).await.map(|received| received.bytes);
        assert_eq!(bodies.held(), 0, "memory is not given back");
        read
    }

    #[tokio::test]
    async fn every_member_of_a_gzip_body_is_read() {
        let long = "a long text. ".repeat(10_000);
        let members = [gzip(b"{\"q\": \""), gzip(b""), gzip(long.as_bytes()), gzip(b"\"}")].concat();
        assert_eq!(
            read(members, &Limits::default()).await.unwrap(),
            format!("{{\"q\": \"{long}\"}}").into_bytes()
        );
        assert_eq!(read(Vec::new(), &Limits::default()).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn what_follows_the_last_member_or_is_missing_from_it_is_an_error() {
        let whole = gzip(b"hello");
        for bytes in [
            [&whole[..], b"garbage"].concat(),
            [&whole[..], &whole[..9]].concat(),
            whole[..whole.len() - 1].to_vec(),
            b"x".to_vec(),
        ] {
            assert_eq!(read(bytes, &Limits::default()).await.map_err(|e| e.fault), Err(Fault::BadRequest));
        }
        let mut wrong_sum = whole;
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        assert_eq!(read(wrong_sum, &Limits::default()).await.map_err(|e| e.fault), Err(Fault::BadRequest));
    }

    #[tokio::test]
    async fn a_bomb_ends_at_the_limit_and_so_do_many_empty_members() {
        let limits = Limits { max_payload: 100_000, ..Limits::default() };
        let bomb = gzip(&vec![0; 10_000_000]);
        assert!(bomb.len() < 20_000);
        assert_eq!(read(bomb, &limits).await.map_err(|e| e.fault), Err(Fault::PayloadTooLarge));
        assert_eq!(
            read(gzip(b"").repeat(MEMBERS + 1), &limits).await.map_err(|e| e.fault),
            Err(Fault::BadRequest)
        );
    }

    #[tokio::test]
    async fn large_bodies_share_a_budget_and_leave_room_for_small_ones() {
        let limits = Limits { max_payload: 400_000, max_body_memory: 1_000_000, ..Limits::default() };
        let bodies = Arc::new(Bodies::new(&limits));
        let read = async |bytes: usize| {
            read_body(&HeaderMap::new(), Body::from(vec![b'x'; bytes]), &bodies, &limits).await
        };
        let mut kept = vec![read(350_000).await.unwrap(), read(350_000).await.unwrap()];
        assert_eq!(read(350_000).await.map_err(|e| e.fault).map(drop), Err(Fault::BodiesFull));
        for _ in 0..4 {
            kept.push(read(SMALL).await.unwrap());
        }
        while let Ok(small) = read(SMALL).await {
            kept.push(small);
            assert!(kept.len() < 20, "small bodies are not counted");
        }
        kept.push(read(UNCOUNTED).await.unwrap());
        kept.clear();
        assert_eq!(bodies.held(), 0);
        assert!(read(350_000).await.is_ok());
    }
}
