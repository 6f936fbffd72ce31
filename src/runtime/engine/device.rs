//! Where graphs run: the processor, or a GPU through ONNX Runtime's CUDA provider.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use super::{Deadline, Engine, EngineKind, IdMatrix, OPENING, StepOutput};
use crate::bundle::Bundle;
use crate::contract::{START, UNK};
use crate::error::{Error, ErrorKind, Result};

/// What graphs run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, through ONNX Runtime; an error if that does not work, never the processor instead.
    Cuda,
    /// Whichever of the two is faster here, measured with a batch of decoder steps; the processor if there is
    /// no GPU.
    Auto,
}

impl Device {
    /// As flags have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let device = [Self::Cpu, Self::Cuda, Self::Auto].into_iter().find(|device| device.as_str() == text);
        device.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("`{text}` is not a device")).help("choose cpu, cuda or auto")
        })
    }
}

/// As [`open`](super::open), on a device of choice.
///
/// # Errors
/// [`ErrorKind::Usage`] for an engine that cannot use the device; [`ErrorKind::Engine`] with what is missing
/// if [`Device::Cuda`] does not work here; as [`open`](super::open).
pub fn open_on(bundle: &Bundle, kind: EngineKind, device: Device) -> Result<Box<dyn Engine>> {
    match device {
        Device::Cpu => super::open(bundle, kind),
        Device::Cuda => super::open_with(bundle, cuda_engine(kind)?, Device::Cuda, Deadline::after(OPENING)),
        Device::Auto => {
            let cpu = super::open(bundle, kind)?;
            let cuda = match cuda_engine(kind)
                .and_then(|kind| super::open_with(bundle, kind, Device::Cuda, Deadline::after(OPENING)))
            {
                Ok(cuda) => cuda,
                Err(error) => {
                    tracing::info!("running on the processor: {error}");
                    return Ok(cpu);
                }
            };
            faster(cpu, cuda)
        }
    }
}

/// The engine that runs on a GPU.
fn cuda_engine(kind: EngineKind) -> Result<EngineKind> {
    match kind {
        EngineKind::Auto | EngineKind::Ort => EngineKind::Ort.resolve(),
        EngineKind::Tract => Err(Error::new(ErrorKind::Usage, "the engine tract runs on the processor only")
            .help("choose --engine ort, or --device cpu")),
    }
}

/// Rows of the steps that are measured: what bulk translation decodes together.
const ROWS: usize = 64;
/// Steps that are measured, after as many to warm up.
const STEPS: usize = 8;

fn faster(mut cpu: Box<dyn Engine>, mut cuda: Box<dyn Engine>) -> Result<Box<dyn Engine>> {
    let (on_cpu, on_cuda) = (seconds(&mut *cpu)?, seconds(&mut *cuda)?);
    let chosen = if on_cuda < on_cpu { Device::Cuda } else { Device::Cpu };
    tracing::info!(
        "{ROWS} rows a step: {:.0} us on the processor, {:.0} us with CUDA; taking {chosen}",
        1e6 * on_cpu,
        1e6 * on_cuda
    );
    Ok(if chosen == Device::Cuda { cuda } else { cpu })
}

/// Seconds of a decoder step.
fn seconds(engine: &mut dyn Engine) -> Result<f64> {
    let source = IdMatrix { rows: ROWS, columns: 8, data: vec![i64::from(UNK); ROWS * 8] };
    let (mut state, mut output) = (engine.encode(&source)?, StepOutput::default());
    let mut begin = Instant::now();
    for step in 0..2 * STEPS {
        if step == STEPS {
            begin = Instant::now();
        }
        engine.step(&[i64::from(START); ROWS], &mut state, &mut output)?;
    }
    Ok(begin.elapsed().as_secs_f64() / STEPS as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written_and_tract_is_refused_a_gpu() {
        for device in [Device::Cpu, Device::Cuda, Device::Auto] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("gpu".parse::<Device>().unwrap_err().help_text(), Some("choose cpu, cuda or auto"));
        assert_eq!(cuda_engine(EngineKind::Tract).unwrap_err().kind(), ErrorKind::Usage);
    }
}
