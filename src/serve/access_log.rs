//! One line a request, on request: who, when, what path, which status. Never what was asked: no query string,
//! no text.

use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::Version;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

/// Lines that may wait for a slow reader; more are dropped and counted, because requests do not wait for the
/// log.
const WAITING: usize = 4096;
/// Bytes that are written at once, and a line: however fast lines come, no more are held beside those that
/// wait.
const BLOCK: usize = 1 << 16;
/// Bytes of a path that are logged.
const LONGEST_PATH: usize = 512;
/// How long the last lines may take when the server stops.
const LAST_LINES: Duration = Duration::from_secs(2);
/// What could be taken for the end of a field.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'\\');

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The Common Log Format of web servers.
    Common,
    /// A JSON object.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "common" => Ok(Self::Common),
            "json" => Ok(Self::Json),
            _ => Err("choose common or json".to_owned()),
        }
    }
}

/// A request that has been answered.
#[derive(Debug)]
pub(super) struct Answered<'a> {
    pub(super) at: SystemTime,
    pub(super) client: Option<IpAddr>,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) version: Version,
    pub(super) status: u16,
    /// Of the answer, where that is known when it begins.
    pub(super) bytes: Option<u64>,
    pub(super) took: Duration,
    pub(super) id: &'a str,
}

/// A log that a thread of its own writes.
#[derive(Debug)]
pub struct AccessLog {
    format: LogFormat,
    lines: Mutex<Option<SyncSender<String>>>,
    begin: Mutex<Option<SyncSender<()>>>,
    ended: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Writes lines to `out`, from [`Self::begin`] on.
    ///
    /// # Errors
    /// No thread.
    pub fn new(format: LogFormat, mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel::<String>(WAITING);
        let (end, ended) = sync_channel(1);
        let (begin, begun) = sync_channel::<()>(1);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let _ = begun.recv();
            while let Ok(line) = waiting.recv() {
                let mut block = line;
                while block.len() < BLOCK
                    && let Ok(line) = waiting.try_recv()
                {
                    block.push_str(&line);
                }
                // Whoever does not read the log any more is no reason to stop.
                let _ = out.write_all(block.as_bytes()).and_then(|()| out.flush());
            }
            let _ = end.try_send(());
        })?;
        Ok(Self {
            format,
            lines: Mutex::new(Some(lines)),
            begin: Mutex::new(Some(begin)),
            ended: Mutex::new(ended),
        })
    }

    /// Writes the lines that wait, and those to come.
    pub fn begin(&self) {
        self.begin.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Adds a line; gives whether there was room for it.
    pub(super) fn add(&self, answered: &Answered<'_>) -> bool {
        let line = match self.format {
            LogFormat::Common => common(answered),
            LogFormat::Json => as_json(answered),
        };
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        !lines.as_ref().is_some_and(|lines| matches!(lines.try_send(line), Err(TrySendError::Full(_))))
    }

    /// Writes what waits, within a moment.
    pub fn close(&self) {
        self.begin();
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LAST_LINES);
    }
}

fn path(path: &str) -> String {
    utf8_percent_encode(&path[..path.floor_char_boundary(LONGEST_PATH)], UNSAFE).to_string()
}

/// `host ident user [day/month/year:hour:minute:second zone] "request" status bytes`.
fn common(answered: &Answered<'_>) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let client = answered.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(answered.at);
    let month = MONTHS[month - 1];
    let mut line = format!("{client} - - [{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000] ");
    // Writing into a String cannot fail.
    let _ = write!(
        line,
        "\"{} {} {:?}\" {} ",
        path(answered.method),
        path(answered.path),
        answered.version,
        answered.status
    );
    match answered.bytes {
        Some(bytes) => _ = writeln!(line, "{bytes}"),
        None => line.push_str("-\n"),
    }
    line
}

fn as_json(answered: &Answered<'_>) -> String {
    let Civil { year, month, day, hour, minute, second, millisecond } = Civil::of(answered.at);
    let line = json!({
        "time": format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z"),
        "client": answered.client,
        "method": answered.method,
        "path": path(answered.path),
        "protocol": format!("{:?}", answered.version),
        "status": answered.status,
        "bytes": answered.bytes,
        "duration_ms": (answered.took.as_secs_f64() * 1e6).round() / 1e3,
        "request_id": answered.id,
    });
    format!("{line}\n")
}

/// A moment in the Gregorian calendar, in UTC.
struct Civil {
    year: u64,
    month: usize,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u32,
}

impl Civil {
    fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (mut days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let is_leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut year = 1970;
        while days >= 365 + u64::from(is_leap(year)) {
            days -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while month < 11 && days >= lengths[month] {
            days -= lengths[month];
            month += 1;
        }
        Self {
            year,
            month: month + 1,
            day: days + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            millisecond: since.subsec_millis(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answered(seconds: u64, path: &str) -> Answered<'_> {
        Answered {
            at: UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7),
            client: Some([127, 0, 0, 1].into()),
            method: "GET",
            path,
            version: Version::HTTP_11,
            status: 200,
            bytes: Some(12),
            took: Duration::from_micros(1500),
            id: "r",
        }
    }

    #[test]
    fn a_line_is_in_the_common_log_format_or_json_whatever_the_path_holds() {
        let line = common(&answered(951_782_399, "/a\"b\\c d/\u{e9}"));
        assert_eq!(
            line,
            "127.0.0.1 - - [28/Feb/2000:23:59:59 +0000] \"GET /a%22b%5Cc%20d/%C3%A9 HTTP/1.1\" 200 12\n"
        );
        assert!(common(&answered(951_782_400, "/")).contains("[29/Feb/2000:00:00:00 +0000]"));
        assert!(common(&answered(4_107_542_400, "/")).contains("[01/Mar/2100:00:00:00 +0000]"));
        let line: serde_json::Value =
            serde_json::from_str(&as_json(&answered(0, &"/x".repeat(5000)))).unwrap();
        assert_eq!(
            (&line["time"], &line["duration_ms"], &line["client"]),
            (&json!("1970-01-01T00:00:00.007Z"), &json!(1.5), &json!("127.0.0.1"))
        );
        assert_eq!(line["path"].as_str().unwrap().len(), LONGEST_PATH);
    }

    #[test]
    fn a_reader_who_does_not_read_holds_up_nobody() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                loop {
                    thread::park();
                }
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::new(LogFormat::Common, Stuck).unwrap();
        log.begin();
        let added = (0..WAITING * 2).filter(|_| log.add(&answered(0, "/"))).count();
        assert!((WAITING..WAITING * 2).contains(&added), "{added}");
    }
}
