//! What was found out and what was guessed, in sentences.

/// The sentences of a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// What names and shapes left no doubt about.
    pub found: Vec<String>,
    /// What they did not decide, and what was taken: to be looked at.
    pub guessed: Vec<String>,
}

impl Remarks {
    pub(super) fn found(&mut self, sentence: String) {
        self.found.push(sentence);
    }

    pub(super) fn guessed(&mut self, sentence: String) {
        self.guessed.push(sentence);
    }

    /// As comments of a manifest.
    pub(super) fn comments(&self) -> String {
        let line = |sentence: &String| format!("# - {}\n", sentence.replace(['\n', '\r'], " "));
        let mut text =
            "# Drafted by `s2s import onnx` from the names and shapes of both graphs.\n".to_owned();
        text.extend(self.found.iter().map(line));
        if !self.guessed.is_empty() {
            text.push_str("# Guessed; compare some outputs with those of your own loop:\n");
            text.extend(self.guessed.iter().map(line));
        }
        text
    }
}
