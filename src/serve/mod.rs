//! The HTTP server: protocols that existing clients already speak, over bundles.
//!
//! [`app`](app::app) is every route without a socket over a [`Server`](server::Server); [`listener`] is the
//! accept loop with its timeouts and its draining; [`scheduler`] joins requests of many clients into batches;
//! [`model`] is the seam to `s2s-runtime`.

pub mod access_log;
mod accounting;
pub mod app;
pub mod auth;
mod body;
pub mod bundle_model;
mod choice;
pub mod client;
mod connection;
mod connections;
mod deepl;
mod document;
mod downloads;
mod envelope;
pub mod error;
mod fields;
mod files;
mod generate;
pub mod graphs;
pub mod hosts;
mod info;
mod json;
mod languages;
pub mod library;
mod libretranslate;
pub mod limits;
pub mod listener;
mod markup;
pub mod metrics;
pub mod model;
mod offload;
mod oip;
mod page;
mod paths;
mod queue;
pub mod raw;
pub mod scheduler;
pub mod server;
pub mod split;
mod timed;
mod work;

#[cfg(test)]
mod tests;
