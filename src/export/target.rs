//! What a runtime can take: the operator set that a graph for it gets, and what it cannot run.
//!
//! Every row was measured with the version that it names, on bundles of this exporter. The encoder with LSTM
//! nodes and the decoder's explicit cell run in most of them; what one lacks is listed with it: refused, or
//! computed wrongly in silence (IREE's encoder over a source read backwards). Those that have no LSTM, or a
//! wrong one, get the encoder's step beside it.

use std::str::FromStr;

use s2s_runtime::contract::file;
use s2s_runtime::manifest::Io;

use super::compression::Dtype;
use super::input::{EncoderForm, ExportOptions};
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::network::sequence::{Need, SequenceNetwork};
use crate::onnx::ir_version;

/// A runtime that graphs can be exported for.
#[derive(Debug)]
pub struct Target {
    /// As `--target` takes it.
    pub name: &'static str,
    /// As people write it, with the version that was measured.
    pub title: &'static str,
    /// The operator set of graphs for it.
    pub opset: i64,
    /// The newest operator set that it was measured with.
    pub newest: i64,
    /// The graphs of the encoder that it needs.
    pub encoder_form: EncoderForm,
    lacks: &'static [Need],
}

/// Lists every runtime that was measured.
pub static TARGETS: [Target; 17] = [
    whole("onnxruntime", "ONNX Runtime 1.32 (1.12 or later)", &[]),
    Target { opset: 15, newest: 15, ..whole("onnxruntime-1.10", "ONNX Runtime 1.10", &[]) },
    whole("onnxruntime-node", "onnxruntime-node 1.30", &[]),
    whole("onnxruntime-web", "onnxruntime-web 1.30", &[]),
    whole("tract", "tract 0.23", &[Need::Loop]),
    whole("rten", "rten 0.27", &[Need::GruResetBefore]),
    whole("openvino", "OpenVINO 2026.4", &[]),
    whole("mnn", "MNN 3.6", &[Need::Int8, Need::GruResetBefore]),
    whole("opencv", "OpenCV 5.0", &[]),
    whole("iree", "IREE 3.13", &[Need::Gru, Need::Bidirectional, Need::Loop]),
    step("litert", "LiteRT 2.1 (onnx2tf 1.29)", &[Need::Bidirectional, Need::Loop, Need::Int8]),
    step("ncnn", "ncnn 1.0 (pnnx)", &[Need::Bidirectional, Need::Loop, Need::OneHot]),
    step("onnx2torch", "onnx2torch 1.5", &[Need::Bidirectional, Need::Loop, Need::Int8]),
    step("tvm", "Apache TVM 0.27", &[Need::Bidirectional, Need::Loop]),
    step("tinygrad", "tinygrad 0.14", &[Need::Bidirectional, Need::Loop]),
    step("candle", "candle-onnx 0.11", &[Need::Bidirectional, Need::Loop, Need::Int8]),
    step("jaxonnxruntime", "jaxonnxruntime 0.3", &[Need::Bidirectional, Need::Loop, Need::Int8]),
];

/// A runtime that takes the usual graphs.
const fn whole(name: &'static str, title: &'static str, lacks: &'static [Need]) -> Target {
    Target { name, title, opset: 17, newest: 21, encoder_form: EncoderForm::Whole, lacks }
}

/// A runtime that runs the encoder token by token.
const fn step(name: &'static str, title: &'static str, lacks: &'static [Need]) -> Target {
    Target { encoder_form: EncoderForm::Step, ..whole(name, title, lacks) }
}

/// All that a model and the way it is exported ask for.
fn needs(network: &dyn SequenceNetwork, options: &ExportOptions) -> Vec<Need> {
    let form = [
        (options.fused, Need::Loop),
        (options.dtype == Dtype::Int8, Need::Int8),
        (options.io == Io::OneHot, Need::OneHot),
    ];
    let form = form.into_iter().filter_map(|(is, need)| is.then_some(need));
    // The step is spelled out: whoever runs it needs no GRU node.
    let by_step = options.encoder_form == EncoderForm::Step;
    let is_node = |need: &Need| matches!(need, Need::Gru | Need::GruResetBefore);
    network.needs().into_iter().filter(|need| !(by_step && is_node(need))).chain(form).collect()
}

impl Target {
    /// The options for this runtime: with its operator set, unless `opset` asks for another one that it
    /// reads.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if it cannot run the model in this form; says what the model needs, what the
    /// runtime has, and which others would do.
    pub fn fit(
        &self,
        network: &dyn SequenceNetwork,
        options: ExportOptions,
        opset: Option<i64>,
    ) -> Result<ExportOptions> {
        let encoder_form = match self.encoder_form {
            EncoderForm::Whole => options.encoder_form,
            EncoderForm::Step => EncoderForm::Step,
        };
        let options = ExportOptions { opset: opset.unwrap_or(self.opset), encoder_form, ..options };
        let needs = needs(network, &options);
        let refuse = |needed: String, has: String, instead: String| {
            let fits = |other: &&Target| {
                !needs.iter().any(|need| other.lacks.contains(need))
                    && opset.is_none_or(|opset| opset <= other.newest)
            };
            let others: Vec<&str> = TARGETS.iter().filter(fits).map(|target| target.name).collect();
            let others = if others.is_empty() {
                String::new()
            } else {
                format!("; targets that can: {}", others.join(", "))
            };
            let message = format!("this model needs {needed}, {} has {has}", self.title);
            Err(Error::new(ErrorKind::Usage, message).help(format!("{instead}{others}")))
        };
        if let Some(lacking) = needs.iter().find(|need| self.lacks.contains(need)) {
            return refuse(lacking.to_string(), "none".to_owned(), lacking.instead().to_owned());
        }
        if options.opset > self.newest {
            let (needed, has) =
                (format!("operator set {}", options.opset), format!("at most {}", self.newest));
            return refuse(needed, has, format!("use --opset {} or leave it out", self.newest));
        }
        Ok(options)
    }

    /// What a person reads about the choice.
    pub fn describe(&self, opset: i64) -> String {
        let form = match self.encoder_form {
            EncoderForm::Whole => String::new(),
            EncoderForm::Step => format!(", with {}", file::ENCODER_STEP),
        };
        format!("for {}: opset {opset}, IR {}{form}", self.title, ir_version(opset))
    }
}

impl FromStr for &'static Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = || TARGETS.iter().map(|target| target.name);
        TARGETS.iter().find(|target| target.name == text).ok_or_else(|| {
            let near = did_you_mean(text, names())
                .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            Error::new(ErrorKind::Usage, format!("`{text}` is not a runtime that graphs are exported for"))
                .help(format!("{near}known are {}", names().collect::<Vec<_>>().join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::{Architecture, Cell, Network, Seq2Seq};
    use crate::onnx::OPSETS;

    fn target(name: &str) -> &'static Target {
        name.parse().unwrap()
    }

    #[test]
    fn every_target_has_a_name_of_its_own_and_an_operator_set_that_is_written() {
        for (i, target) in TARGETS.iter().enumerate() {
            assert!(TARGETS[..i].iter().all(|other| other.name != target.name));
            assert!(
                OPSETS.contains(&target.opset)
                    && target.opset <= target.newest
                    && OPSETS.contains(&target.newest)
            );
        }
        let error = "onnxruntim".parse::<&'static Target>().unwrap_err();
        assert!(
            error.help_text().unwrap().starts_with("did you mean `onnxruntime`? known are "),
            "{error:?}"
        );
    }

    #[test]
    fn a_target_chooses_the_operator_set_and_takes_another_one_that_it_reads() {
        let plain = Seq2Seq::new(Architecture::default()).unwrap();
        let fit = |name, opset| target(name).fit(&plain, ExportOptions::default(), opset).map(|o| o.opset);
        assert_eq!(fit("onnxruntime-1.10", None).unwrap(), 15);
        assert_eq!(fit("onnxruntime-1.10", Some(13)).unwrap(), 13);
        let error = fit("onnxruntime-1.10", Some(17)).unwrap_err();
        assert_eq!(error.message(), "this model needs operator set 17, ONNX Runtime 1.10 has at most 15");
        let help = error.help_text().unwrap();
        assert!(
            help.starts_with("use --opset 15 or leave it out; targets that can: onnxruntime, ")
                && help.contains("tract"),
            "{help}"
        );
    }

    #[test]
    fn what_a_runtime_lacks_is_said_with_what_would_do() {
        let plain = Seq2Seq::new(Architecture::default()).unwrap();
        let gru = Seq2Seq::new(Architecture { cell: Cell::Gru, ..Architecture::default() }).unwrap();
        let error = target("iree").fit(&gru, ExportOptions::default(), None).unwrap_err();
        assert_eq!(error.message(), "this model needs GRU, IREE 3.13 has none");
        assert!(
            error.help_text().unwrap().starts_with(
                "use --encoder-form step or train with `cell: lstm`; targets that can: onnxrunt"
            ),
            "{error:?}"
        );
        let before =
            Seq2Seq::new(Architecture { cell: Cell::GruResetBefore, ..Architecture::default() }).unwrap();
        let by_step = ExportOptions { encoder_form: EncoderForm::Step, ..ExportOptions::default() };
        for name in ["rten", "mnn", "iree"] {
            let error = target(name).fit(&before, ExportOptions::default(), None).unwrap_err();
            assert!(error.message().starts_with("this model needs "), "{error:?}");
            assert!(target(name).fit(&before, by_step.clone(), None).is_ok(), "{name} runs steps");
        }
        let fused = ExportOptions { fused: true, ..ExportOptions::default() };
        let error = target("tract").fit(&plain, fused.clone(), None).unwrap_err();
        assert!(
            error.message().contains("Loop") && error.help_text().unwrap().starts_with("leave --fused out"),
            "{error:?}"
        );
        assert!(target("onnxruntime").fit(&gru, fused, None).is_ok());
    }
}
