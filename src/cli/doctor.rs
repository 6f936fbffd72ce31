//! `s2s doctor`: what was found on this machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::engine::{self, EngineReport, Measured};
use s2s_runtime::printable;

use crate::cli::Global;
use crate::error::{Error, ErrorKind, Result};

/// Show engines, CPU features and libraries found on this machine
///
/// With a bundle it opens it in every engine, times a few decoder steps, and says which engine `--engine auto`
/// takes, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A bundle to try the engines with
    #[arg(value_name = "DIR")]
    bundle: Option<PathBuf>,
}

/// What `s2s doctor --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    engines: Vec<EngineReport>,
    cpu: Cpu,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<Tried>,
}

/// The engines with a bundle.
#[derive(Debug, Serialize)]
struct Tried {
    name: String,
    engines: Vec<Measured>,
    /// What `auto` stands for.
    auto: &'static str,
    reason: String,
}

impl Tried {
    fn of(path: &Path) -> Result<Self> {
        let bundle = Bundle::open(path)?;
        let (kind, reason) = engine::choice(&bundle)?;
        let name = bundle.manifest().name.clone();
        Ok(Self { name, engines: engine::measured(&bundle), auto: kind.as_str(), reason })
    }
}

#[derive(Debug, Serialize)]
struct Cpu {
    architecture: &'static str,
    system: &'static str,
    model: Option<String>,
    /// Features that the kernels choose by.
    features: Vec<&'static str>,
    /// Cores that this process may use, quota and affinity counted.
    usable_cores: usize,
    /// Cores that the cgroup grants, where it limits them.
    cgroup_quota: Option<f64>,
}

/// Runs `s2s doctor`.
#[allow(clippy::needless_pass_by_value)] // As all subcommands take them.
pub fn run(args: Args, global: &Global) -> Result<()> {
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        engines: engine::available(),
        cpu: cpu(),
        bundle: args.bundle.as_deref().map(Tried::of).transpose()?,
    };
    let text = if global.json {
        serde_json::to_string_pretty(&report)
            .map_err(|e| Error::new(ErrorKind::Internal, "the report cannot be written").caused_by(e))?
            + "\n"
    } else {
        printable::lines(&describe(&report, global.verbose)).into_owned()
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has read enough.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("stdout", e)),
        _ => Ok(()),
    }
}

fn describe(report: &Report, verbose: bool) -> String {
    use std::fmt::Write as _;
    let mut text = format!("s2s {}\n\nengines\n", report.version);
    for engine in &report.engines {
        let version = engine.version.as_deref().unwrap_or("");
        let state = engine.problem.as_deref().unwrap_or("ready");
        let _ = writeln!(text, "  {:6} {version:8} {state}", engine.name);
        if let Some(path) = &engine.path {
            let origin = engine.origin.map_or_else(String::new, |origin| format!(" ({origin})"));
            let _ = writeln!(text, "  {:15} {}{origin}", "", path.display());
        }
        if let Some(help) = &engine.help {
            let _ = writeln!(text, "  {:15} {help}", "");
        }
        // In order; what comes behind the place that won is of no interest unless asked for.
        let all = engine.problem.is_some() || verbose;
        let won = engine
            .searched
            .iter()
            .position(|place| place.libraries > 0)
            .map_or(engine.searched.len(), |won| won + 1);
        let shown = &engine.searched[..if all { engine.searched.len() } else { won }];
        if !shown.is_empty() {
            let _ = writeln!(text, "  {:15} looked in, first to last:", "");
        }
        for (at, place) in shown.iter().enumerate() {
            let found = match place.libraries {
                0 => "",
                _ if at + 1 == won => ": the first that has one",
                _ => ": has one too",
            };
            let _ = writeln!(text, "  {:15}   {} ({}){found}", "", place.path.display(), place.origin);
        }
    }
    if let Some(Tried { name, engines, auto, reason }) = &report.bundle {
        let _ = writeln!(text, "\nbundle {name}");
        for Measured { engine, open_ms, step_us: [one, many], problem, .. } in engines {
            let said = problem.clone().unwrap_or_else(|| {
                format!(
                    "opens in {open_ms:.1} ms, a step of 1 row takes {one:.0} us, of 64 rows {many:.0} us"
                )
            });
            let _ = writeln!(text, "  {engine:6} {said}");
        }
        let _ = writeln!(text, "  auto   {auto}: {reason}");
    }
    let cpu = &report.cpu;
    let _ = writeln!(text, "\nprocessor");
    let _ = writeln!(
        text,
        "  model    {} ({}, {})",
        cpu.model.as_deref().unwrap_or("unknown"),
        cpu.architecture,
        cpu.system
    );
    let _ = writeln!(
        text,
        "  features {}",
        if cpu.features.is_empty() { "none that matter".to_owned() } else { cpu.features.join(" ") }
    );
    let quota = cpu.cgroup_quota.map_or_else(String::new, |quota| format!(", cgroup quota {quota}"));
    let _ = writeln!(text, "  cores    {} usable{quota}", cpu.usable_cores);
    text
}

fn cpu() -> Cpu {
    Cpu {
        architecture: std::env::consts::ARCH,
        system: std::env::consts::OS,
        model: std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| model_name(&text)),
        features: features(),
        usable_cores: std::thread::available_parallelism().map_or(1, usize::from),
        cgroup_quota: std::fs::read_to_string("/sys/fs/cgroup/cpu.max").ok().and_then(|text| quota(&text)),
    }
}

fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// `cpu.max` of cgroup v2: quota and period in microseconds, or `max`.
fn quota(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let mut found = vec![];
    macro_rules! detect {
        ($($name:tt)*) => { $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })* };
    }
    detect!("sse4.2" "avx" "avx2" "fma" "f16c" "avx512f" "avx512vnni");
    found
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let mut found = vec![];
    macro_rules! detect {
        ($($name:tt)*) => { $(if std::arch::is_aarch64_feature_detected!($name) { found.push($name); })* };
    }
    detect!("neon" "fp16" "dotprod" "sve");
    found
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    vec![]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_quota_of_a_cgroup_is_read_in_cores_and_no_limit_is_none() {
        assert_eq!(quota("150000 100000\n"), Some(1.5));
        assert_eq!(quota("max 100000\n"), None);
        assert_eq!(quota(""), None);
    }

    #[test]
    fn the_report_names_every_engine_and_what_to_do_about_a_missing_one() {
        let bundle = Some(Tried::of(Path::new("exported/dates")).unwrap());
        let report = Report { version: "1.2.3", engines: engine::available(), cpu: cpu(), bundle };
        let text = describe(&report, true);
        for engine in &report.engines {
            assert!(text.contains(engine.name), "{text}");
            assert!(engine.help.as_ref().is_none_or(|help| text.contains(help.as_str())), "{text}");
            // Where the library comes from, and why.
            assert!(engine.origin.is_none_or(|origin| text.contains(&format!(" ({origin})"))), "{text}");
            assert!(
                engine.searched.iter().all(|place| text.contains(&format!(
                    "{} ({})",
                    place.path.display(),
                    place.origin
                ))),
                "{text}"
            );
        }
        assert!(text.contains("bundle dates") && text.contains("\n  auto   tract: "), "{text}");
        assert!(report.cpu.usable_cores > 0 && text.contains("cores"), "{text}");
    }
}
