//! Counters of the server in the text format of Prometheus: seconds, `_total`, bounded labels.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a scrape of `/metrics` is sent as.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds in seconds, for whole requests and the time in the queue.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds in seconds, for one call of an engine.
const CALL_SECONDS: &[f64] = &[0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
/// Upper bounds in rows.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Counts of observations by size.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last is everything above.
    counts: Vec<AtomicU64>,
    /// In units of 1e-9, so that an integer holds it exactly enough.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Counts one observation.
    pub(super) fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|&bound| bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and a float saturates")]
        self.sum.fetch_add((value * 1e9).round() as u64, Ordering::Relaxed);
    }

    /// Counts one duration.
    pub(super) fn time(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// Observations so far, and their sum.
    pub(super) fn totals(&self) -> (u64, f64) {
        (self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum(), self.sum.load(Ordering::Relaxed) as f64 / 1e9)
    }

    fn render(&self, page: &mut Page, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (at, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = self.bounds.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            page.line(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"{bound}\""), total);
        }
        page.line(&format!("{name}_sum"), labels, self.sum.load(Ordering::Relaxed) as f64 / 1e9);
        page.line(&format!("{name}_count"), labels, total);
    }
}

/// What one model has done.
#[derive(Debug)]
pub struct ModelMetrics {
    /// Texts decoded to the end.
    pub(super) inferences: AtomicU64,
    /// Texts that ended with an error.
    pub(super) failures: AtomicU64,
    /// Source tokens of texts that were admitted.
    pub(super) input_tokens: AtomicU64,
    /// Tokens of returned hypotheses.
    pub(super) generated_tokens: AtomicU64,
    /// Texts whose client went away.
    pub(super) cancelled: AtomicU64,
    /// From the queue's door to the batch.
    pub(super) queue: Histogram,
    /// From the batch's door to the end.
    pub(super) inference: Histogram,
    /// From the queue's door to the first token.
    pub(super) first_token: Histogram,
    /// One run of the encoder.
    pub(super) encoder: Histogram,
    /// One run of the decoder.
    pub(super) step: Histogram,
    /// Rows of one run of the decoder.
    pub(super) batch: Histogram,
    /// When the last text ended, in milliseconds of the Unix clock; 0 is never.
    pub(super) last: AtomicU64,
}

impl Default for ModelMetrics {
    fn default() -> Self {
        Self {
            inferences: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            input_tokens: AtomicU64::new(0),
            generated_tokens: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            queue: Histogram::new(SECONDS),
            inference: Histogram::new(SECONDS),
            first_token: Histogram::new(SECONDS),
            encoder: Histogram::new(CALL_SECONDS),
            step: Histogram::new(CALL_SECONDS),
            batch: Histogram::new(ROWS),
            last: AtomicU64::new(0),
        }
    }
}

impl ModelMetrics {
    /// A text has ended now.
    pub(super) fn ended(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Adds `n` to a counter.
pub(super) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

#[derive(Debug)]
struct Requests {
    by_outcome: BTreeMap<(&'static str, String, u16), u64>,
    failures: BTreeMap<&'static str, u64>,
}

/// What the server has done.
#[derive(Debug)]
pub struct Metrics {
    requests: Mutex<Requests>,
    /// From a request's arrival to the head of its answer.
    pub(super) duration: Histogram,
    in_flight: AtomicUsize,
    /// Requests that have arrived so far.
    pub(super) arrived: AtomicU64,
    models: Mutex<BTreeMap<String, Arc<ModelMetrics>>>,
    started: SystemTime,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Mutex::new(Requests { by_outcome: BTreeMap::new(), failures: BTreeMap::new() }),
            duration: Histogram::new(SECONDS),
            in_flight: AtomicUsize::new(0),
            arrived: AtomicU64::new(0),
            models: Mutex::default(),
            started: SystemTime::now(),
        }
    }
}

/// A request that counts as in flight until this is dropped.
pub(super) struct InFlight(Arc<Metrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// The counters of the model called `name`; they go on when the model is loaded anew.
    pub fn model(&self, name: &str) -> Arc<ModelMetrics> {
        Arc::clone(self.models.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default())
    }

    /// A request has arrived.
    pub(super) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.arrived.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has been answered.
    ///
    /// - `path`: as the route is written, so that clients cannot invent labels.
    pub(super) fn answered(&self, method: &str, path: &str, status: u16, error_type: Option<&'static str>, took: Duration) {
        const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"];
        let method = METHODS.into_iter().find(|&known| known == method).unwrap_or("OTHER");
        self.duration.time(took);
        let mut requests = self.requests();
        *requests.by_outcome.entry((method, path.to_owned(), status)).or_default() += 1;
        if let Some(error_type) = error_type {
            *requests.failures.entry(error_type).or_default() += 1;
        }
    }

    /// A request failed after its answer had begun.
    pub(super) fn failed(&self, error_type: &'static str) {
        *self.requests().failures.entry(error_type).or_default() += 1;
    }

    /// The page that Prometheus scrapes.
    ///
    /// - `depths`: the name of each loaded model, and texts in its queue.
    /// - `bodies`: bytes of request bodies in flight.
    pub(super) fn render(&self, depths: &[(String, usize)], bodies: usize) -> String {
        let mut page = Page::default();
        page.head("s2s_build_info", "gauge", "The version that runs");
        page.line("s2s_build_info", &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1);
        {
            let requests = self.requests();
            page.head("s2s_http_requests_total", "counter", "Requests answered");
            for ((method, path, status), n) in &requests.by_outcome {
                page.line("s2s_http_requests_total", &format!("method=\"{method}\",path=\"{path}\",status=\"{status}\""), n);
            }
            page.head("s2s_request_failures_total", "counter", "Requests that failed, by error_type");
            for (error_type, n) in &requests.failures {
                page.line("s2s_request_failures_total", &format!("error_type=\"{error_type}\""), n);
            }
        }
        page.head("s2s_http_requests_in_flight", "gauge", "Requests being answered");
        page.line("s2s_http_requests_in_flight", "", self.in_flight.load(Ordering::Relaxed));
        page.head("s2s_http_request_body_bytes", "gauge", "Bytes of request bodies in flight that --max-body-memory counts");
        page.line("s2s_http_request_body_bytes", "", bodies);
        page.head("s2s_http_request_duration_seconds", "histogram", "From a request's arrival to the head of its answer");
        self.duration.render(&mut page, "s2s_http_request_duration_seconds", "");
        page.head("s2s_model_ready", "gauge", "1 if the model takes requests");
        for (name, _) in depths {
            page.line("s2s_model_ready", &model_label(name), 1);
        }
        page.head("s2s_queue_depth", "gauge", "Texts that wait for a worker");
        for (name, depth) in depths {
            page.line("s2s_queue_depth", &model_label(name), depth);
        }
        self.render_models(&mut page);
        process(&mut page, self.started);
        page.0
    }

    fn render_models(&self, page: &mut Page) {
        type Counter = fn(&ModelMetrics) -> u64;
        type Distribution = fn(&ModelMetrics) -> &Histogram;
        let counters: [(&str, &str, Counter); 6] = [
            ("s2s_inferences_total", "Texts decoded", |m| m.inferences.load(Ordering::Relaxed)),
            ("s2s_inference_failures_total", "Texts that ended with an error", |m| m.failures.load(Ordering::Relaxed)),
            ("s2s_executions_total", "Runs of the decoder, one step of a batch each", |m| m.step.totals().0),
            ("s2s_input_tokens_total", "Source tokens read", |m| m.input_tokens.load(Ordering::Relaxed)),
            ("s2s_generated_tokens_total", "Tokens of returned hypotheses", |m| m.generated_tokens.load(Ordering::Relaxed)),
            ("s2s_requests_cancelled_total", "Texts whose client went away", |m| m.cancelled.load(Ordering::Relaxed)),
        ];
        let histograms: [(&str, &str, Distribution); 6] = [
            ("s2s_queue_duration_seconds", "From a text's arrival to its batch", |m| &m.queue),
            ("s2s_inference_duration_seconds", "From the batch to the end of a text", |m| &m.inference),
            ("s2s_first_token_duration_seconds", "From a text's arrival to its first token", |m| &m.first_token),
            ("s2s_encoder_duration_seconds", "One run of the encoder", |m| &m.encoder),
            ("s2s_step_duration_seconds", "One run of the decoder", |m| &m.step),
            ("s2s_batch_size", "Rows of one run of the decoder", |m| &m.batch),
        ];
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, help, counter) in counters {
            page.head(name, "counter", help);
            for (model, metrics) in &*models {
                page.line(name, &model_label(model), counter(metrics));
            }
        }
        for (name, help, histogram) in histograms {
            page.head(name, "histogram", help);
            for (model, metrics) in &*models {
                histogram(metrics).render(page, name, &model_label(model));
            }
        }
    }
}

fn model_label(name: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("model=\"{escaped}\"")
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }
}

/// The process as Prometheus' client libraries name it; only what Linux tells.
fn process(page: &mut Page, started: SystemTime) {
    let mut gauge = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            page.head(name, kind, help);
            page.line(name, "", value);
        }
    };
    let since = started.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
    gauge("process_start_time_seconds", "gauge", "When the server started, in seconds of the Unix clock", since);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
    gauge("process_resident_memory_bytes", "gauge", "Memory in use", field("VmRSS:").map(|kib| kib * 1024.0));
    gauge("process_virtual_memory_bytes", "gauge", "Address space in use", field("VmSize:").map(|kib| kib * 1024.0));
    gauge("process_threads", "gauge", "Threads", field("Threads:"));
    // Fields 14 and 15 of stat, after the name in parentheses: user and system time in hundredths of a second.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum::<f64>());
    gauge("process_cpu_seconds_total", "counter", "Processor time", ticks.map(|ticks| ticks / 100.0));
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
    gauge("process_open_fds", "gauge", "Open files and sockets", files);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_above_the_last() {
        let histogram = Histogram::new(ROWS);
        for value in [1.0, 2.0, 3.0, 1000.0] {
            histogram.observe(value);
        }
        let mut page = Page::default();
        histogram.render(&mut page, "x", "");
        for line in ["x_bucket{le=\"1\"} 1", "x_bucket{le=\"2\"} 2", "x_bucket{le=\"4\"} 3", "x_bucket{le=\"256\"} 3"] {
            assert!(page.0.contains(line), "{line} is not in {}", page.0);
        }
        assert!(page.0.ends_with("x_bucket{le=\"+Inf\"} 4\nx_sum 1006\nx_count 4\n"), "{}", page.0);
    }

    #[test]
    fn a_strange_name_is_escaped_and_a_strange_method_is_other() {
        let metrics = Metrics::default();
        metrics.model("a\"b\\c\n");
        metrics.answered("BREW", "/x", 405, Some("method_not_allowed"), Duration::ZERO);
        let page = metrics.render(&[], 0);
        assert!(page.contains(r#"s2s_inferences_total{model="a\"b\\c\n"} 0"#), "{page}");
        assert!(page.contains(r#"s2s_http_requests_total{method="OTHER",path="/x",status="405"} 1"#), "{page}");
        assert!(page.contains(r#"s2s_request_failures_total{error_type="method_not_allowed"} 1"#), "{page}");
    }
}
