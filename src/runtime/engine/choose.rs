//! The engine and the device for a bundle: as asked for, or the fastest.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::auto;
use super::deadline::{Deadline, OPENING};
use super::device::Device;
use super::interface::Engine;
use super::kind::{EngineKind, report};
use super::open::open_with;
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};

/// Loads encoder and decoder of `bundle`, and runs the bundle's self test if it has one. What is unusual
/// about the pair is logged.
///
/// [`EngineKind::Auto`] takes the fastest engine, as [`choice`] says.
///
/// # Errors
/// [`ErrorKind::Engine`] if the engine is missing or cannot load a graph; [`ErrorKind::Parity`] if the self
/// test fails; [`ErrorKind::Timeout`] if all that takes longer than a minute.
pub fn open(bundle: &Bundle, kind: EngineKind) -> Result<Box<dyn Engine>> {
    open_on(bundle, kind, Device::Cpu)
}

/// The same without a line in the log, for who asks for [`Engine::remark`].
///
/// # Errors
/// As [`open`].
pub fn open_silently(bundle: &Bundle, kind: EngineKind) -> Result<Box<dyn Engine>> {
    match kind {
        EngineKind::Auto => fastest(bundle).map(|(engine, _)| engine),
        kind => open_with(bundle, kind, Device::Cpu, Deadline::after(OPENING)),
    }
}

/// As [`open`], on a device of choice.
///
/// # Errors
/// [`ErrorKind::Usage`] for an engine that cannot use the device; [`ErrorKind::Engine`] with what is missing
/// if [`Device::Cuda`] does not work here; as [`open`].
pub fn open_on(bundle: &Bundle, kind: EngineKind, device: Device) -> Result<Box<dyn Engine>> {
    let accelerated = |device| {
        device_engine(kind).and_then(|kind| open_with(bundle, kind, device, Deadline::after(OPENING)))
    };
    let engine = match device {
        Device::Cuda | Device::Simulated => accelerated(device)?,
        Device::Cpu => open_silently(bundle, kind)?,
        Device::Auto => {
            let cpu = open_silently(bundle, kind)?;
            match accelerated(Device::Cuda) {
                Ok(cuda) => faster(cpu, cuda)?,
                Err(error) => {
                    tracing::info!("running on the processor: {error}");
                    cpu
                }
            }
        }
    };
    if let Some(remark) = engine.remark() {
        tracing::warn!("{remark}");
    }
    Ok(engine)
}

/// The engine that runs on a device of its own.
fn device_engine(kind: EngineKind) -> Result<EngineKind> {
    match kind {
        EngineKind::Auto | EngineKind::Ort => EngineKind::Ort.resolve(),
        EngineKind::Tract => Err(Error::new(ErrorKind::Usage, "the engine tract runs on the processor only")
            .help("choose --engine ort, or --device cpu")),
    }
}

fn faster(mut cpu: Box<dyn Engine>, mut cuda: Box<dyn Engine>) -> Result<Box<dyn Engine>> {
    let rows = auto::ROWS[1];
    let (on_cpu, on_cuda) = (auto::step_time(&mut *cpu, rows)?, auto::step_time(&mut *cuda, rows)?);
    let chosen = if on_cuda < on_cpu { Device::Cuda } else { Device::Cpu };
    tracing::info!(
        "{rows} rows a step: {} us on the processor, {} us with CUDA; taking {chosen}",
        on_cpu.as_micros(),
        on_cuda.as_micros()
    );
    Ok(if chosen == Device::Cuda { cuda } else { cpu })
}

/// The fastest engine on the processor, opened, and why it is that one.
fn fastest(bundle: &Bundle) -> Result<(Box<dyn Engine>, String)> {
    let opened = |kind| open_with(bundle, kind, Device::Cpu, Deadline::after(OPENING));
    let has_ort = || report(EngineKind::Ort).problem.is_none();
    let doubtful = auto::doubtful(bundle)?;
    let (engine, reason) = match auto::known(doubtful.as_deref(), has_ort) {
        Some((EngineKind::Tract, reason)) => match opened(EngineKind::Tract) {
            Ok(engine) => (engine, reason),
            // What one engine cannot run another may.
            Err(error)
                if error.kind() == ErrorKind::Engine && EngineKind::Ort.resolve().is_ok() && has_ort() =>
            {
                match opened(EngineKind::Ort) {
                    Ok(engine) => (engine, format!("tract cannot run it ({error})")),
                    Err(_) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        },
        Some((kind, reason)) => (opened(kind)?, reason),
        None => match (opened(EngineKind::Tract), opened(EngineKind::Ort)) {
            (Ok(tract), Ok(ort)) => measured_pair(tract, ort)?,
            (Err(error), Ok(ort)) => (ort, format!("tract cannot run it ({error})")),
            (Ok(tract), Err(error)) => (tract, format!("ONNX Runtime cannot run it ({error})")),
            (Err(error), Err(_)) => return Err(error),
        },
    };
    tracing::debug!("engine {}: {reason}", engine.name());
    Ok((engine, reason))
}

/// The faster of two engines on the processor.
fn measured_pair(mut tract: Box<dyn Engine>, mut ort: Box<dyn Engine>) -> Result<(Box<dyn Engine>, String)> {
    let (times, others) = (auto::step_times(&mut *tract)?, auto::step_times(&mut *ort)?);
    let said = |[few, many]: [Duration; 2]| format!("{} and {} us", few.as_micros(), many.as_micros());
    let reason = format!(
        "a step of {} and {} rows takes {} in tract, {} in ort",
        auto::ROWS[0],
        auto::ROWS[1],
        said(times),
        said(others)
    );
    Ok((if auto::is_faster(times, others) { tract } else { ort }, reason))
}

/// What [`EngineKind::Auto`] stands for with a bundle, and why, in words.
///
/// Where both graphs have operators alone that tract is fast at, which `s2s export` writes, it is tract, and
/// nothing is measured or even loaded. Otherwise some steps of 1 and of 64 rows are timed in all engines that
/// work here, which takes less than a tenth of a second beside opening them; where one cannot run the bundle,
/// it is another.
///
/// # Errors
/// As [`open`].
pub fn choice(bundle: &Bundle) -> Result<(EngineKind, String)> {
    let (engine, reason) = fastest(bundle)?;
    Ok((engine.name().parse()?, reason))
}

/// How fast an engine is with a bundle on this machine.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Measured {
    /// `tract` or `ort`.
    pub engine: &'static str,
    /// Milliseconds until the bundle was open.
    pub open_ms: f64,
    /// Microseconds of a decoder step of 1 row and of 64, the median of a few; where only one text is encoded
    /// at a time both are of 1 row.
    pub step_us: [f64; 2],
    /// Why it cannot run the bundle; the times are then zero.
    pub problem: Option<String>,
}

/// Opens the bundle in every engine that works here, and times a few steps.
pub fn measured(bundle: &Bundle) -> Vec<Measured> {
    let works = EngineKind::COMPILED.iter().filter(|&&kind| report(kind).problem.is_none());
    works
        .map(|&kind| {
            let begin = Instant::now();
            let timed =
                open_with(bundle, kind, Device::Cpu, Deadline::after(OPENING)).and_then(|mut engine| {
                    let open_ms = 1e3 * begin.elapsed().as_secs_f64();
                    let times = auto::step_times(&mut *engine)?;
                    Ok((open_ms, times.map(|time| 1e6 * time.as_secs_f64())))
                });
            let (open_ms, step_us) = timed.as_ref().copied().unwrap_or_default();
            let problem = timed.err().map(|error| error.to_string());
            Measured { engine: kind.as_str(), open_ms, step_us, problem }
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tract_is_refused_a_gpu() {
        assert_eq!(device_engine(EngineKind::Tract).unwrap_err().kind(), ErrorKind::Usage);
    }
}
