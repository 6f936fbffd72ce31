//! What one client, and all of them together, may ask of the server.

use std::time::Duration;

/// Limits of the server; every one is a flag of `s2s serve-local` and an `S2S_` environment variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Texts that wait for a worker, over all requests; one more is answered 429.
    pub max_queue: usize,
    /// Rows that a worker decodes together; a beam is a row.
    pub max_batch_size: usize,
    /// Texts of one request.
    pub max_client_batch: usize,
    /// Tokens of one text.
    pub max_input_tokens: usize,
    /// Tokens of one translation, END counted.
    pub max_new_tokens: usize,
    /// Bytes that the hypotheses of one request may take while they are decoded and written as an answer: for each token
    /// its text and, where they are asked for, its score and its attention on every source token.
    pub max_answer: usize,
    /// Bytes of a request body, counted after decompression.
    pub max_payload: usize,
    /// Bytes of all request bodies in flight, as far as they have arrived; one that needs more is answered 503. There is
    /// always room for two of the largest size, and for many small ones beside large ones.
    pub max_body_memory: usize,
    /// Connections open at once; more wait in the kernel until one closes.
    pub max_connections: usize,
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_queue: 256,
            max_batch_size: 32,
            max_client_batch: 32,
            max_input_tokens: 512,
            max_new_tokens: 1024,
            max_answer: 32_000_000,
            max_payload: 2_000_000,
            max_body_memory: 64 << 20,
            max_connections: 1024,
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
