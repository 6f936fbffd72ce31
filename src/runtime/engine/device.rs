//! Where graphs run: the processor, or a GPU through ONNX Runtime's CUDA provider.

use std::fmt;
use std::str::FromStr;

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
    /// The processor in the place of a GPU: graphs run as on one, and what would be in its memory is never
    /// read as if it were in the host's. For tests of everything but speed.
    Simulated,
}

impl Device {
    /// As flags have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Auto => "auto",
            Self::Simulated => "simulated",
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
        let mut devices = [Self::Cpu, Self::Cuda, Self::Auto, Self::Simulated].into_iter();
        let device = devices.find(|device| device.as_str() == text);
        device.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("`{text}` is not a device")).help("choose cpu, cuda or auto")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in [Device::Cpu, Device::Cuda, Device::Auto, Device::Simulated] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("gpu".parse::<Device>().unwrap_err().help_text(), Some("choose cpu, cuda or auto"));
    }
}
