//! `s2s serve-local`: an HTTP server over bundles.

pub(super) mod config_file;
mod health;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{Device, EngineKind};
use s2s_runtime::translator::default_workers;
use tokio::sync::Notify;

use crate::cli::Global;
use crate::cli::translate::read_options;
use crate::error::{Error, ErrorKind, Result};
use crate::serve::access_log::{AccessLog, LogFormat};
use crate::serve::auth::ApiKey;
use crate::serve::hosts::Hosts;
use crate::serve::library::Library;
use crate::serve::limits::Limits;
use crate::serve::listener::{Ended, bind, serve};
use crate::serve::server::Server;
use crate::serve::split::Split;

/// The key that clients must send; never a flag, because other users of the machine can read command lines.
const API_KEY: &str = "S2S_API_KEY";

/// Serve bundles over HTTP, as LibreTranslate does
///
/// The first line on stdout is the address, printed when requests are taken. Set S2S_API_KEY to ask every
/// client for that key. SIGINT and SIGTERM stop the server when the requests in flight are answered; a second
/// one stops it at once. SIGHUP loads bundles that have changed.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Bundles: folders that `s2s export` wrote, zips of them, or a folder of several
    #[arg(required_unless_present_any = ["config", "check"], value_name = "BUNDLE")]
    bundles: Vec<PathBuf>,
    /// A YAML file of these flags, with underscores for hyphens, and of `bundles`; the command line and the
    /// environment come first
    #[arg(long, env = "S2S_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Serve nothing: ask the server with this host and port whether it takes requests, and exit with 0 if it
    /// does
    #[arg(long, env = "S2S_CHECK", value_parser = FalseyValueParser::new())]
    check: bool,
    /// Address to listen on; anything but this machine's loopback can be reached from outside
    #[arg(long, env = "S2S_HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "S2S_PORT", default_value_t = 8080)]
    port: u16,
    /// Names that clients may call this server by, such as translate.example.org or *.example.org; * is any
    /// name
    ///
    /// Without it a server on loopback answers to loopback names only; any other also to addresses and to
    /// names without a dot. That keeps the pages of other sites out, which give their own names this server's
    /// address (DNS rebinding). Pages of a name that is given here may use the server too.
    #[arg(long, env = "S2S_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',')]
    allowed_host: Vec<String>,
    /// Sites whose pages may use this server, such as `https://app.example.org`, `http://a.example:*` or null
    /// (files); * is any
    ///
    /// Pages of this server's own names always may, on loopback those of every port of localhost, and browser
    /// extensions. Who may ask may read the answer: such requests are answered with CORS headers.
    #[arg(long, env = "S2S_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<String>,
    /// How texts are taken apart where a request does not say it: lines, sentences or none
    #[arg(long, env = "S2S_SPLIT", value_name = "HOW", default_value = "lines", value_parser = split)]
    split: Split,
    /// Write a line for each request to stdout, after the address: common (Common Log Format) or json; never
    /// a text
    #[arg(long, env = "S2S_ACCESS_LOG", value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "common", value_parser = log_format)]
    access_log: Option<LogFormat>,
    /// What runs the graphs: auto, tract or ort
    #[arg(long, env = "S2S_ENGINE", default_value = "auto", value_parser = engine_kind)]
    engine: EngineKind,
    /// Where texts are decoded: cpu, cuda (ONNX Runtime with its CUDA provider) or auto, which measures
    #[arg(long, env = "S2S_DEVICE", default_value = "cpu")]
    device: Device,
    /// Threads that decode, each with an engine of its own [default: as many as processors may be used]
    #[arg(long, env = "S2S_WORKERS", value_name = "N", value_parser = at_least_one)]
    workers: Option<usize>,
    /// Decoding options in YAML, over those of the bundle
    #[arg(long, env = "S2S_DECODING", value_name = "FILE")]
    decoding: Option<PathBuf>,
    /// Code of the source language, such as en, in place of the bundle's; without either every code is
    /// accepted
    #[arg(long, env = "S2S_SOURCE_LANGUAGE", value_name = "CODE")]
    source_language: Option<String>,
    /// Code of the target language, such as fr, in place of the bundle's; without either every code is
    /// accepted
    #[arg(long, env = "S2S_TARGET_LANGUAGE", value_name = "CODE")]
    target_language: Option<String>,
    /// How often to look for bundles that were replaced or added; 0 never
    #[arg(long, env = "S2S_RELOAD", value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    reload: Duration,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Seconds may have a fraction.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Texts that wait for a worker; one more is answered 429
    #[arg(long, env = "S2S_MAX_QUEUE", value_name = "N", default_value = "256", value_parser = at_least_one)]
    max_queue: usize,
    /// Rows that a worker decodes together; a beam is a row
    #[arg(long, env = "S2S_MAX_BATCH_SIZE", value_name = "N", default_value = "32", value_parser = at_least_one)]
    max_batch_size: usize,
    /// Texts of one request; so many of its lines wait at once
    #[arg(long, env = "S2S_MAX_CLIENT_BATCH", value_name = "N", default_value = "64", value_parser = at_least_one)]
    max_client_batch: usize,
    /// Lines, sentences or texts between tags of one request, over all its texts; more are answered 422
    #[arg(long, env = "S2S_MAX_LINES", value_name = "N", default_value = "4096", value_parser = at_least_one)]
    max_lines: usize,
    /// Tokens of one line
    #[arg(long, env = "S2S_MAX_INPUT_TOKENS", value_name = "N", default_value = "512", value_parser = at_least_one)]
    max_input_tokens: usize,
    /// Tokens of one translation; a request for more is answered 422
    #[arg(long, env = "S2S_MAX_NEW_TOKENS", value_name = "N", default_value = "1024", value_parser = at_least_one)]
    max_new_tokens: usize,
    /// Bytes that one answer may take: hypotheses times tokens, with attention times source tokens; more is
    /// answered 422
    #[arg(long, env = "S2S_MAX_ANSWER", value_name = "BYTES", default_value = "32000000", value_parser = at_least_one)]
    max_answer: usize,
    /// Bytes of a request body, after decompression
    #[arg(long, env = "S2S_MAX_PAYLOAD", value_name = "BYTES", default_value = "2000000", value_parser = at_least_one)]
    max_payload: usize,
    /// Bytes of all request bodies in flight, as far as they have arrived; one that needs more is answered
    /// 503 [default: 64 MiB, or four times --max-payload if that is more]
    #[arg(long, env = "S2S_MAX_BODY_MEMORY", value_name = "BYTES", value_parser = at_least_one)]
    max_body_memory: Option<usize>,
    /// Bytes of translated files that wait to be fetched; where there is no room, the oldest of who has most
    /// go
    #[arg(long, env = "S2S_MAX_FILE_MEMORY", value_name = "BYTES", default_value = "67108864", value_parser = at_least_one)]
    max_file_memory: usize,
    /// How long a translated file can be fetched
    #[arg(long, env = "S2S_FILE_LIFETIME", value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    file_lifetime: Duration,
    /// Connections open at once, or as many as there may be open files; more displace quiet ones, or wait
    #[arg(long, env = "S2S_MAX_CONNECTIONS", value_name = "N", default_value = "1024", value_parser = at_least_one)]
    max_connections: usize,
    /// Connections of one address; more displace its quiet ones, or are answered 429. Raise it behind a
    /// proxy, whose address is everybody's [default: three quarters of --max-connections]
    #[arg(long, env = "S2S_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = at_least_one)]
    max_connections_per_address: Option<usize>,
    /// From a request's arrival to its answer, else 504
    #[arg(long, env = "S2S_REQUEST_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    request_timeout: Duration,
    /// From a connection's opening to its first byte
    #[arg(long, env = "S2S_FIRST_BYTE_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    first_byte_timeout: Duration,
    /// From a request's first byte to the end of its headers
    #[arg(long, env = "S2S_HEADER_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    header_timeout: Duration,
    /// From the end of the headers to the end of the body, else 408
    #[arg(long, env = "S2S_BODY_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    body_timeout: Duration,
    /// Between two requests of one connection
    #[arg(long, env = "S2S_IDLE_TIMEOUT", value_name = "SECONDS", default_value = "75", value_parser = seconds)]
    idle_timeout: Duration,
    /// How long a client may take no byte of its answer
    #[arg(long, env = "S2S_WRITE_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    write_timeout: Duration,
    /// How long requests in flight may go on after SIGINT or SIGTERM
    #[arg(long, env = "S2S_GRACE", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    grace: Duration,
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        Limits {
            max_queue: self.max_queue,
            max_batch_size: self.max_batch_size,
            max_client_batch: self.max_client_batch,
            max_lines: self.max_lines,
            max_input_tokens: self.max_input_tokens,
            max_new_tokens: self.max_new_tokens,
            max_answer: self.max_answer,
            max_payload: self.max_payload,
            max_body_memory: self
                .max_body_memory
                .unwrap_or_else(|| self.max_payload.saturating_mul(4).max(64 << 20)),
            max_file_memory: self.max_file_memory,
            file_lifetime: self.file_lifetime,
            max_connections: self.max_connections,
            max_connections_per_address: self
                .max_connections_per_address
                .unwrap_or_else(|| Limits::share(self.max_connections)),
            request_timeout: self.request_timeout,
            first_byte_timeout: self.first_byte_timeout,
            header_timeout: self.header_timeout,
            body_timeout: self.body_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            grace: self.grace,
        }
    }
}

fn engine_kind(typed: &str) -> Result<EngineKind, String> {
    typed.parse().map_err(|error: Error| error.help_text().unwrap_or(error.message()).to_owned())
}

fn split(typed: &str) -> Result<Split, String> {
    typed.parse().map_err(|_| "choose lines, sentences or none".to_owned())
}

fn log_format(typed: &str) -> Result<LogFormat, String> {
    typed.parse()
}

fn at_least_one(typed: &str) -> Result<usize, String> {
    typed.parse().ok().filter(|&n| n >= 1).ok_or_else(|| "a whole number of at least 1 is wanted".to_owned())
}

fn seconds(typed: &str) -> Result<Duration, String> {
    let seconds = typed.parse::<f64>().ok().filter(|s| (0.0..=1e6).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "a number of seconds between 0 and 1000000 is wanted".to_owned())
}

/// Runs `s2s serve-local`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    if args.check {
        return health::check(&args.host, args.port);
    }
    if args.bundles.is_empty() {
        let error = Error::new(ErrorKind::Config, "there is no bundle to serve");
        return Err(match &args.config {
            Some(file) => error.at_line(file, None, Some("bundles")).help("bundles: [exported/NAME]"),
            None => error,
        });
    }
    let key = api_key()?;
    s2s_kernels::share_heaps(default_workers());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(default_workers().min(4))
        .enable_all()
        .build()
        .map_err(|cause| Error::new(ErrorKind::Io, "no threads for the server").caused_by(cause))?;
    let ended = runtime.block_on(serve_until_stopped(args, key, global));
    // A model that is still loading is not waited for.
    runtime.shutdown_background();
    ended
}

fn api_key() -> Result<Option<ApiKey>> {
    match std::env::var(API_KEY) {
        Ok(key) if key.is_empty() => Err(Error::new(ErrorKind::Usage, format!("{API_KEY} is empty"))
            .help("set a key, or unset the variable")),
        Ok(key) => Ok(Some(ApiKey::new(&key))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::new(ErrorKind::Usage, format!("{API_KEY} is not UTF-8")))
        }
    }
}

async fn serve_until_stopped(args: Args, key: Option<ApiKey>, global: &Global) -> Result<()> {
    let (listener, address) = bind(&args.host, args.port).await?;
    if !address.ip().is_loopback() && key.is_none() {
        tracing::warn!("anybody who can reach {address} can use this server; set {API_KEY} to ask for a key");
    }
    let hosts = Hosts::new(address.ip(), &args.allowed_host);
    let hosts =
        hosts.map_err(|message| Error::new(ErrorKind::Usage, format!("--allowed-host: {message}")))?;
    let hosts = hosts.with_origins(&args.cors_origin);
    let hosts = hosts.map_err(|message| Error::new(ErrorKind::Usage, format!("--cors-origin: {message}")))?;
    let log = args.access_log.map(|format| AccessLog::new(format, std::io::stdout())).transpose();
    let log =
        log.map_err(|cause| Error::new(ErrorKind::Io, "no thread for the access log").caused_by(cause))?;
    let (stop, cut, hangup) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    tokio::spawn(watch_signals(Arc::clone(&stop), Arc::clone(&cut))?);
    watch_hangup(Arc::clone(&hangup))
        .map_err(|cause| Error::new(ErrorKind::Io, "signals cannot be watched").caused_by(cause))?;
    let mut limits = args.limits.limits();
    fit_descriptors(&mut limits);
    let server = Arc::new(Server::new(limits, key).at(hosts).splitting(args.split).logging(log));
    let mut serving = tokio::spawn({
        let (server, stop, cut) = (Arc::clone(&server), Arc::clone(&stop), Arc::clone(&cut));
        async move { serve(listener, server, stop.notified(), cut.notified()).await }
    });
    // Until the models are there, requests are answered 503.
    let loading = tokio::task::spawn_blocking({
        let (args, server) = (args.clone(), Arc::clone(&server));
        move || {
            let library = library(&args)?;
            let (shelf, schedulers) = library.open(&server)?;
            Ok::<_, Error>((library, shelf, schedulers))
        }
    });
    tokio::select! {
        loaded = loading => {
            let (library, shelf, schedulers) = loaded.map_err(|panic| Error::new(ErrorKind::Internal, "loading a model panicked").caused_by(panic))??;
            let names: Vec<String> = schedulers.iter().map(|s| s.model().card().name.clone()).collect();
            let failed: Vec<String> = shelf.failed().iter().map(|(path, _)| path.display().to_string()).collect();
            server.ready(schedulers);
            tokio::spawn(Arc::new(library).watch(shelf, Arc::clone(&server), args.reload, hangup));
            announce(&format!("http://{address}"), &names, &failed, global);
            // The first line is the address, whoever asked while models were loaded.
            server.begin_access_log();
        }
        ended = &mut serving => return outcome(ended),
    }
    let ended = serving.await;
    server.close_access_log();
    outcome(ended)
}

fn outcome(ended: Result<Ended, tokio::task::JoinError>) -> Result<()> {
    match ended
        .map_err(|panic| Error::new(ErrorKind::Internal, "the accept loop panicked").caused_by(panic))?
    {
        Ended::Drained => Ok(()),
        Ended::Cut(open) => {
            Err(Error::new(ErrorKind::Interrupted, format!("stopped with {open} connections open"))
                .help("--grace sets how long they may go on"))
        }
    }
}

/// The address on stdout; whoever started the server without reading it is not an error.
///
/// - `failed`: bundles that are not served.
fn announce(url: &str, models: &[String], failed: &[String], global: &Global) {
    let line = match global.json {
        true if failed.is_empty() => serde_json::json!({ "url": url, "models": models }).to_string(),
        true => serde_json::json!({ "url": url, "models": models, "failed": failed }).to_string(),
        false => url.to_owned(),
    };
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    tracing::info!("serving {} at {url}", models.join(", "));
}

/// The first SIGINT or SIGTERM notifies `stop`, the second `cut`.
fn watch_signals(stop: Arc<Notify>, cut: Arc<Notify>) -> Result<impl Future<Output = ()>> {
    let mut signals = Signals::watch()
        .map_err(|cause| Error::new(ErrorKind::Io, "signals cannot be watched").caused_by(cause))?;
    Ok(async move {
        for tell in [stop, cut] {
            signals.next().await;
            tell.notify_one();
        }
    })
}

/// Lets the process open as many files as connections want, as far as it may; where it may not, there are
/// fewer connections.
#[cfg(unix)]
fn fit_descriptors(limits: &mut Limits) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (wanted, open) = (limits.max_connections, limits.wanted_descriptors());
    let own = getrlimit(Resource::Nofile);
    // None is no limit. The soft limit may be raised up to the hard one.
    let raised = Rlimit { current: Some(open.min(own.maximum.unwrap_or(open))), ..own };
    let is_short = own.current.is_some_and(|current| current < open);
    let allowed =
        if is_short && setrlimit(Resource::Nofile, raised).is_ok() { raised.current } else { own.current };
    if let Some(descriptors) = allowed.filter(|&descriptors| limits.fit_descriptors(descriptors)) {
        let allowed = limits.max_connections;
        tracing::warn!(
            "{descriptors} open files allow {allowed} connections, not {wanted}; raise ulimit -n, or lower \
             --max-connections"
        );
    }
}

#[cfg(not(unix))]
fn fit_descriptors(_limits: &mut Limits) {}

/// Each SIGHUP notifies `hangup`; from here on none ends the process.
#[cfg(unix)]
fn watch_hangup(hangup: Arc<Notify>) -> std::io::Result<()> {
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            hangup.notify_one();
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn watch_hangup(_hangup: Arc<Notify>) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn watch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn watch() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

fn library(args: &Args) -> Result<Library> {
    Ok(Library {
        paths: args.bundles.clone(),
        engine: args.engine,
        device: args.device,
        workers: args.workers.unwrap_or_else(default_workers),
        decoding: args.decoding.as_deref().map_or_else(|| Ok(DecodingOptions::default()), read_options)?,
        source_language: args.source_language.clone(),
        target_language: args.target_language.clone(),
    })
}
