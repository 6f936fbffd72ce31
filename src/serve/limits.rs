//! What one client, and all of them together, may ask of the server.

use std::time::Duration;

/// Largest request head, and the buffer that hyper reads into.
pub(super) const READ_BUFFER: usize = 64 * 1024;

/// Limits of the server; every one is a flag of `s2s serve-local` and an `S2S_` environment variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Texts that wait for a worker, over all requests; one more is answered 429.
    pub max_queue: usize,
    /// Rows that a worker decodes together; a beam is a row.
    pub max_batch_size: usize,
    /// Texts of one request.
    pub max_client_batch: usize,
    /// Lines, sentences or texts between tags of one request, over all its texts.
    pub max_lines: usize,
    /// Tokens of one line.
    pub max_input_tokens: usize,
    /// Tokens of one translation, END counted.
    pub max_new_tokens: usize,
    /// Bytes that the hypotheses of one request may take while they are decoded and written as an answer: for
    /// each token its text and, where they are asked for, its score and its attention on every source token.
    pub max_answer: usize,
    /// Bytes of a request body, counted after decompression.
    pub max_payload: usize,
    /// Bytes of all request bodies in flight, as far as they have arrived; one that needs more is answered
    /// 503. There is always room for two of the largest size, and for many small ones beside large ones.
    pub max_body_memory: usize,
    /// Bytes of translated files that wait to be fetched; the oldest go where there is no room.
    pub max_file_memory: usize,
    /// How long a translated file can be fetched.
    pub file_lifetime: Duration,
    /// Connections open at once; more displace quiet ones, or wait until one closes.
    pub max_connections: usize,
    /// Connections of one address; more displace its quiet ones, or are answered 429.
    pub max_connections_per_address: usize,
    /// From a request's headers to its answer.
    pub request_timeout: Duration,
    /// From a connection's opening to its first byte.
    pub first_byte_timeout: Duration,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body.
    pub body_timeout: Duration,
    /// Between an answer and the next request on the same connection.
    pub idle_timeout: Duration,
    /// How long a client may refuse to take any byte of an answer.
    pub write_timeout: Duration,
    /// How long requests in flight may go on after SIGINT or SIGTERM.
    pub grace: Duration,
}

/// File descriptors that are kept for bundles, libraries, event queues and connections that are refused.
const RESERVED_DESCRIPTORS: u64 = 128;

impl Limits {
    /// Lowers the number of connections to what a process may open that has `descriptors` file descriptors;
    /// gives whether that was needed.
    pub fn fit_descriptors(&mut self, descriptors: u64) -> bool {
        let reserved = RESERVED_DESCRIPTORS.min(descriptors / 2);
        let most = usize::try_from(descriptors - reserved).unwrap_or(usize::MAX).max(1);
        let is_lowered = self.max_connections > most;
        if is_lowered {
            self.max_connections = most;
            self.max_connections_per_address = self.max_connections_per_address.min(Self::share(most));
        }
        is_lowered
    }

    /// What one address may have of `connections`, unless it is said otherwise.
    pub fn share(connections: usize) -> usize {
        (connections - connections / 4).max(1)
    }

    /// Descriptors that `max_connections` want.
    pub fn wanted_descriptors(&self) -> u64 {
        (self.max_connections as u64).saturating_add(RESERVED_DESCRIPTORS)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_queue: 256,
            max_batch_size: 32,
            max_client_batch: 64,
            max_lines: 4096,
            max_input_tokens: 512,
            max_new_tokens: 1024,
            max_answer: 32_000_000,
            max_payload: 2_000_000,
            max_body_memory: 64 << 20,
            max_file_memory: 64 << 20,
            file_lifetime: Duration::from_secs(600),
            max_connections: 1024,
            max_connections_per_address: 768,
            request_timeout: Duration::from_secs(60),
            first_byte_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_the_file_descriptors_that_there_are() {
        let mut limits = Limits::default();
        assert!(!limits.fit_descriptors(limits.wanted_descriptors()) && limits == Limits::default());
        assert!(limits.fit_descriptors(256));
        assert_eq!((limits.max_connections, limits.max_connections_per_address), (128, 96));
        assert!(limits.fit_descriptors(10));
        assert_eq!((limits.max_connections, limits.max_connections_per_address), (5, 4));
        assert!(limits.fit_descriptors(0));
        assert_eq!((limits.max_connections, limits.max_connections_per_address), (1, 1));
    }
}
