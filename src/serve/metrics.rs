//! Counters of the server in the text format of Prometheus: seconds, `_total`, bounded labels.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What a scrape of `/metrics` is sent as.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds in seconds, for whole requests and the time in the queue.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds in seconds, for one call of an engine.
const CALL_SECONDS: &[f64] =
    &[0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
/// Upper bounds in rows.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Counts of observations by size, without a lock: workers observe at every step.
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
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one observation.
    pub(super) fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|&bound| bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, and a float saturates"
        )]
        self.sum.fetch_add((value * 1e9).round() as u64, Ordering::Relaxed);
    }

    /// Counts one duration.
    pub(super) fn time(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// Observations so far, and their sum.
    pub(super) fn totals(&self) -> (u64, f64) {
        (
            self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum(),
            self.sum.load(Ordering::Relaxed) as f64 / 1e9,
        )
    }

    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        // Counted from the same numbers as the buckets, so that a scrape is consistent.
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(
            self.sum.load(Ordering::Relaxed) as f64 / 1e9,
            count,
            &buckets,
            None,
        )
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
    /// Lines of the access log that had no room.
    dropped_lines: AtomicU64,
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
            dropped_lines: AtomicU64::new(0),
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
        Arc::clone(
            self.models.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default(),
        )
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
    pub(super) fn answered(
        &self,
        method: &str,
        path: &str,
        status: u16,
        error_type: Option<&'static str>,
        took: Duration,
    ) {
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

    /// A line of the access log had no room.
    pub(super) fn log_line_dropped(&self) {
        self.dropped_lines.fetch_add(1, Ordering::Relaxed);
    }

    /// The page that Prometheus scrapes.
    ///
    /// - `depths`: the name of each loaded model, and texts in its queue.
    /// - `bodies`: bytes of request bodies in flight.
    pub(super) fn render(self: &Arc<Self>, depths: Vec<(String, usize)>, bodies: usize) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape { metrics: Arc::clone(self), depths, bodies }));
        let mut page = String::new();
        if let Err(error) = prometheus_text::encode(&mut page, &registry) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        page
    }
}

/// What is told at one scrape.
#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    depths: Vec<(String, usize)>,
    bodies: usize,
}

/// A counter's name without its ending, which the library writes.
fn bare(counter: &str) -> &str {
    counter.strip_suffix("_total").unwrap_or(counter)
}

/// Families of metrics, one after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(bare(name), help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// The process as Prometheus' client libraries name it; only what Linux tells.
    fn process(&mut self, started: SystemTime) -> fmt::Result {
        let since = started.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok())
        };
        let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
        let gauges = [
            ("process_start_time_seconds", "When the server started, in seconds of the Unix clock", since),
            ("process_resident_memory_bytes", "Memory in use", field("VmRSS:").map(|kib| kib * 1024.0)),
            (
                "process_virtual_memory_bytes",
                "Address space in use",
                field("VmSize:").map(|kib| kib * 1024.0),
            ),
            ("process_threads", "Threads", field("Threads:")),
            ("process_open_fds", "Open files and sockets", files),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                self.gauge(name, help, value)?;
            }
        }
        // Fields 14 and 15 of stat, after the name in parentheses: user and system time in hundredths of a
        // second.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(')') else { return Ok(()) };
        let ticks: f64 =
            rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        let mut family =
            self.0.encode_descriptor("process_cpu_seconds", "Processor time", None, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, u64>(&(ticks / 100.0), None)
    }

    fn models(&mut self, models: &BTreeMap<String, Arc<ModelMetrics>>) -> fmt::Result {
        type Counter = fn(&ModelMetrics) -> u64;
        type Distribution = fn(&ModelMetrics) -> &Histogram;
        let counters: [(&str, &str, Counter); 6] = [
            ("s2s_inferences_total", "Texts decoded", |m| m.inferences.load(Ordering::Relaxed)),
            ("s2s_inference_failures_total", "Texts that ended with an error", |m| {
                m.failures.load(Ordering::Relaxed)
            }),
            ("s2s_executions_total", "Runs of the decoder, one step of a batch each", |m| m.step.totals().0),
            ("s2s_input_tokens_total", "Source tokens read", |m| m.input_tokens.load(Ordering::Relaxed)),
            ("s2s_generated_tokens_total", "Tokens of returned hypotheses", |m| {
                m.generated_tokens.load(Ordering::Relaxed)
            }),
            ("s2s_requests_cancelled_total", "Texts whose client went away", |m| {
                m.cancelled.load(Ordering::Relaxed)
            }),
        ];
        let histograms: [(&str, &str, Distribution); 6] = [
            ("s2s_queue_duration_seconds", "From a text's arrival to its batch", |m| &m.queue),
            ("s2s_inference_duration_seconds", "From the batch to the end of a text", |m| &m.inference),
            ("s2s_first_token_duration_seconds", "From a text's arrival to its first token", |m| {
                &m.first_token
            }),
            ("s2s_encoder_duration_seconds", "One run of the encoder", |m| &m.encoder),
            ("s2s_step_duration_seconds", "One run of the decoder", |m| &m.step),
            ("s2s_batch_size", "Rows of one run of the decoder", |m| &m.batch),
        ];
        for (name, help, counter) in counters {
            self.counters(
                name,
                help,
                models.iter().map(|(model, metrics)| ([("model", model.as_str())], counter(metrics))),
            )?;
        }
        for (name, help, histogram) in histograms {
            let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (model, metrics) in models {
                histogram(metrics).encode(family.encode_family(&[("model", model.as_str())])?)?;
            }
        }
        Ok(())
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { metrics, depths, bodies } = self;
        let mut page = Page(encoder);
        page.gauges(
            "s2s_build_info",
            "The version that runs",
            [([("version", env!("CARGO_PKG_VERSION"))], 1_i64)],
        )?;
        {
            let requests = metrics.requests();
            let outcomes = requests.by_outcome.iter().map(|((method, path, status), count)| {
                (
                    [
                        ("method", (*method).to_owned()),
                        ("path", path.clone()),
                        ("status", status.to_string()),
                    ],
                    *count,
                )
            });
            page.counters("s2s_http_requests_total", "Requests answered", outcomes)?;
            let failures =
                requests.failures.iter().map(|(error_type, count)| ([("error_type", *error_type)], *count));
            page.counters("s2s_request_failures_total", "Requests that failed, by error_type", failures)?;
        }
        page.gauge(
            "s2s_http_requests_in_flight",
            "Requests being answered",
            metrics.in_flight.load(Ordering::Relaxed),
        )?;
        page.gauge(
            "s2s_http_request_body_bytes",
            "Bytes of request bodies in flight that --max-body-memory counts",
            *bodies,
        )?;
        let help = "Lines of the access log that had no room";
        let mut lines =
            page.0.encode_descriptor("s2s_access_log_lines_dropped", help, None, MetricType::Counter)?;
        lines.encode_counter::<NoLabelSet, _, u64>(&metrics.dropped_lines.load(Ordering::Relaxed), None)?;
        let help = "From a request's arrival to the head of its answer";
        metrics.duration.encode(page.0.encode_descriptor(
            "s2s_http_request_duration_seconds",
            help,
            None,
            MetricType::Histogram,
        )?)?;
        let ready = depths.iter().map(|(model, _)| ([("model", model.as_str())], 1_i64));
        page.gauges("s2s_model_ready", "1 if the model takes requests", ready)?;
        let waiting = depths.iter().map(|(model, depth)| ([("model", model.as_str())], *depth));
        page.gauges("s2s_queue_depth", "Texts that wait for a worker", waiting)?;
        page.models(&metrics.models.lock().unwrap_or_else(PoisonError::into_inner))?;
        page.process(metrics.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_above_the_last() {
        let metrics = Arc::new(Metrics::default());
        for value in [1.0, 2.0, 3.0, 1000.0] {
            metrics.model("x").batch.observe(value);
        }
        let page = metrics.render(Vec::new(), 0);
        let family: Vec<&str> = page.lines().filter(|line| line.starts_with("s2s_batch_size_")).collect();
        let bucket =
            |bound: &str, count: u64| format!("s2s_batch_size_bucket{{model=\"x\",le=\"{bound}\"}} {count}");
        for line in [bucket("1", 1), bucket("2", 2), bucket("4", 3), bucket("256", 3), bucket("+Inf", 4)] {
            let other_order = line.replace("{model=\"x\",", "{").replace("\"} ", "\",model=\"x\"} ");
            assert!(
                family.contains(&line.as_str()) || family.contains(&other_order.as_str()),
                "{line} is not in {family:#?}"
            );
        }
        assert_eq!(
            family[family.len() - 2..],
            ["s2s_batch_size_sum{model=\"x\"} 1006.0", "s2s_batch_size_count{model=\"x\"} 4"]
        );
    }

    #[test]
    fn a_strange_name_is_escaped_and_a_strange_method_is_other() {
        let metrics = Arc::new(Metrics::default());
        metrics.model("a\"b\\c\n");
        metrics.answered("BREW", "/x", 405, Some("method_not_allowed"), Duration::ZERO);
        let page = metrics.render(Vec::new(), 0);
        assert!(page.contains(r#"s2s_inferences_total{model="a\"b\\c\n"} 0"#), "{page}");
        assert!(
            page.contains(r#"s2s_http_requests_total{method="OTHER",path="/x",status="405"} 1"#),
            "{page}"
        );
        assert!(page.contains(r#"s2s_request_failures_total{error_type="method_not_allowed"} 1"#), "{page}");
    }
}
