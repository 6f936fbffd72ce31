//! The runtimes that the rules know, and what one may do with a graph.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result, guess};

/// A runtime that the rules know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runtime {
    /// ONNX Runtime, also as onnxruntime-node, onnxruntime-web and the crate ort.
    OnnxRuntime,
    /// tract, as s2s itself runs graphs.
    Tract,
    /// rten, an engine in Rust.
    Rten,
    /// candle-onnx, the evaluator of candle.
    Candle,
    /// OpenVINO, of Intel.
    OpenVino,
    /// MNN, of Alibaba.
    Mnn,
    /// IREE, a compiler of graphs.
    Iree,
    /// OpenCV's DNN module.
    OpenCv,
    /// The onnx package's reference evaluator.
    Reference,
    /// emx-onnx-cgen, which writes C.
    EmxOnnxCgen,
}

/// What a runtime does with what a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It gives wrong numbers and no error.
    Wrong,
    /// It does not load or run it.
    Refuses,
    /// It is much slower than it need be.
    Slow,
}

impl Runtime {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::OnnxRuntime,
        Self::Tract,
        Self::Rten,
        Self::Candle,
        Self::OpenVino,
        Self::Mnn,
        Self::Iree,
        Self::OpenCv,
        Self::Reference,
        Self::EmxOnnxCgen,
    ];

    /// As it is written in reports and after `--for`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::Tract => "tract",
            Self::Rten => "rten",
            Self::Candle => "candle",
            Self::OpenVino => "openvino",
            Self::Mnn => "mnn",
            Self::Iree => "iree",
            Self::OpenCv => "opencv",
            Self::Reference => "reference",
            Self::EmxOnnxCgen => "emx-onnx-cgen",
        }
    }

    /// The release whose behaviour the rules tell.
    pub fn version(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "1.32.0",
            Self::Tract => "0.23.9",
            Self::Rten => "0.27.0",
            Self::Candle => "0.11.1",
            Self::OpenVino => "2026.4.1",
            Self::Mnn => "3.6.1",
            Self::Iree => "3.13.0",
            Self::OpenCv => "5.0.0",
            Self::Reference => "1.23.2",
            Self::EmxOnnxCgen => "1.4.0",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Runtime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = || Self::ALL.into_iter().map(Self::name);
        Self::ALL.into_iter().find(|runtime| runtime.name() == text).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("`{text}` is no runtime that the rules know")).help(guess(
                text,
                "known runtimes",
                names(),
            ))
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wrong => "wrong without an error",
            Self::Refuses => "refused",
            Self::Slow => "slow",
        })
    }
}
