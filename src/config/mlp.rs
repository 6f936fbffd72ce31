//! Configs of `model.kind: mlp`.

use super::raw::Field;
use super::samples::{SampleConfig, SampleModel};
use crate::error::Result;
use crate::network::Network;
use crate::network::ground::limits::WIDEST;
use crate::network::perceptron::{MOST_CLASSES, MOST_INPUTS, Mlp, MlpArchitecture};

/// An experiment with a perceptron.
pub type MlpConfig = SampleConfig<MlpArchitecture>;

impl SampleModel for MlpArchitecture {
    const EXAMPLE: &'static str = "{kind: mlp, inputs: 784, hidden: [128], classes: 10}";
    const NOUN: &'static str = "a perceptron";

    fn read(model: &Field<'_>, scale: f32) -> Result<Self> {
        let model = model.section(&["kind", "inputs", "hidden", "classes"])?;
        model.required("kind", "mlp")?.choice(&[("mlp", ())])?;
        let hidden = model
            .required("hidden", "[128]")?
            .list()?
            .iter()
            .map(|f| f.count(1..=WIDEST as u32))
            .collect::<Result<_>>()?;
        let architecture = Self {
            inputs: model.required("inputs", "784")?.count(1..=MOST_INPUTS as u32)?,
            hidden,
            classes: model.required("classes", "10")?.count(2..=MOST_CLASSES as u32)?,
            scale,
        };
        Mlp::new(architecture.clone())
            .map_err(|e| model.whole().error(e.message(), e.help_text().unwrap_or_default()))?;
        Ok(architecture)
    }

    fn sizes(&self) -> [usize; 2] {
        [self.inputs, self.classes]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::LoadOptions;

    #[test]
    fn the_committed_config_is_sound_and_a_wrong_key_is_named() -> Result<()> {
        let text = include_str!("../../configs/mlp_mnist.yaml");
        let config = MlpConfig::parse(text, Path::new("mlp.yaml"), &LoadOptions::default())?;
        assert_eq!(
            (config.architecture.inputs, config.architecture.hidden.as_slice()),
            (784, &[512, 216, 128][..])
        );
        let wrong = MlpConfig::parse(
            &text.replace("classes: 10", "clases: 10"),
            Path::new("mlp.yaml"),
            &LoadOptions::default(),
        );
        let message =
            wrong.err().map(|e| format!("{e} {}", e.help_text().unwrap_or_default())).unwrap_or_default();
        assert!(message.contains("model.clases") && message.contains("did you mean `classes`?"), "{message}");
        Ok(())
    }
}
