//! Which tokenisers a folder of transformers wants.

use serde_json::Value;

use super::hub_config::HubConfig;
use super::open::{NamedFiles, Side};
use super::spec::{TokeniserKind, TokeniserSpec, VocabularySpec};
use crate::contract::SpecialIds;
use crate::error::{Error, ErrorKind, Result};

/// The files of a folder that tokenisers may be read from.
pub const FOLDER_FILES: [&str; 9] = [
    TOKENIZER,
    CONFIG,
    SENTENCEPIECE,
    "spiece.model",
    "source.spm",
    "target.spm",
    "vocab.json",
    "target_vocab.json",
    "added_tokens.json",
];
const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const SENTENCEPIECE: &str = "sentencepiece.bpe.model";

/// The tokenisers of a folder, as a manifest has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderTokenisers {
    /// Text to source ids.
    pub source: VocabularySpec,
    /// Target ids to text.
    pub target: VocabularySpec,
    /// The id of what no piece covers, if the model has one.
    pub unk: Option<u32>,
}

/// The tokenisers of a folder that transformers or Optimum wrote, opened once to see that they are
/// understood.
///
/// - `files`: those of [`FOLDER_FILES`] that there are.
/// - `config`: the folder's `config.json`.
/// - `sizes`: ids of the encoder and of the decoder: `vocab_size`.
///
/// # Errors
/// [`ErrorKind::Bundle`] with the file and the key that is missing, damaged or not understood.
pub fn of_folder(files: NamedFiles<'_>, config: &Value, sizes: [usize; 2]) -> Result<FolderTokenisers> {
    let has = |name: &str| files.files.contains_key(name);
    let settings = match has(CONFIG) {
        true => HubConfig::read(files.get(CONFIG)?, &files.folder.join(CONFIG))?,
        false => HubConfig::default(),
    };
    check(&settings, has)?;
    let class = settings.text("tokenizer_class").or_else(|| config["tokenizer_class"].as_str());
    let family = config["model_type"].as_str().unwrap_or_default();
    let class = class.map_or_else(|| class_of(family), |class| class.trim_end_matches("Fast"));
    let config = has(CONFIG).then(|| CONFIG.to_owned());
    let spec = |kind: TokeniserKind, model: Option<&str>, ids: Option<&str>| TokeniserSpec {
        kind,
        model: model.map(str::to_owned),
        ids: ids.map(str::to_owned),
        config: config.clone(),
    };
    let piece = |kind: TokeniserKind, model: &str| {
        has(model).then(|| [spec(kind, Some(model), None), spec(kind, Some(model), None)])
    };
    let with_ids = |kind: TokeniserKind, models: [&str; 2], ids: [&str; 2]| {
        let all = models.iter().chain(&ids).all(|name| has(name));
        all.then(|| [0, 1].map(|side| spec(kind, Some(models[side]), Some(ids[side]))))
    };
    let of_class = match class {
        "ByT5Tokenizer" => Some([0, 1].map(|_| spec(TokeniserKind::Bytes, None, None))),
        "MarianTokenizer" => {
            let separate = settings.flag("separate_vocabs") == Some(true);
            let target = if separate { "target_vocab.json" } else { "vocab.json" };
            with_ids(TokeniserKind::Marian, ["source.spm", "target.spm"], ["vocab.json", target])
        }
        "M2M100Tokenizer" => with_ids(TokeniserKind::M2m100, [SENTENCEPIECE; 2], ["vocab.json"; 2]),
        _ => None,
    };
    let fast = || piece(TokeniserKind::TokenizerJson, TOKENIZER);
    let slow = || match class {
        "T5Tokenizer" | "MT5Tokenizer" => piece(TokeniserKind::T5, "spiece.model"),
        "PegasusTokenizer" => piece(TokeniserKind::Pegasus, "spiece.model"),
        "NllbTokenizer" => piece(TokeniserKind::Nllb, SENTENCEPIECE),
        "MBartTokenizer" => piece(TokeniserKind::Mbart, SENTENCEPIECE),
        "MBart50Tokenizer" => piece(TokeniserKind::Mbart50, SENTENCEPIECE),
        _ => None,
    };
    let Some([source, target]) = of_class.or_else(fast).or_else(slow) else {
        let name = if class.is_empty() { "the model" } else { class };
        let message = format!("the folder has no files of a tokenizer that are read for {name}");
        return Err(Error::new(ErrorKind::Bundle, message).in_file(files.folder).help(
            "there may be: tokenizer.json; source.spm, target.spm and vocab.json; sentencepiece.bpe.model; \
             spiece.model. AutoTokenizer.from_pretrained(...).save_pretrained(...) writes tokenizer.json \
             where there are only vocab.json and merges.txt",
        ));
    };
    let side = |tokeniser: TokeniserSpec, size| VocabularySpec {
        tokeniser: Some(tokeniser),
        size: Some(size),
        ..VocabularySpec::default()
    };
    let [source, target] = [side(source, sizes[0]), side(target, sizes[1])];
    // No id of these is asked for before the manifest gives them.
    let special = SpecialIds { pad: 0, start: 0, end: 0, unk: 0 };
    let unk = Side::open(&source, special, files)?.tokeniser().unknown();
    if source != target {
        Side::open(&target, special, files)?;
    }
    Ok(FolderTokenisers { source, target, unk })
}

/// Settings that would make other ids than are made here.
fn check(settings: &HubConfig, has: impl Fn(&str) -> bool) -> Result<()> {
    if settings.flag("split_special_tokens") == Some(true) {
        return Err(settings.wrong("split_special_tokens", "not understood").help("set it to false"));
    }
    if settings.has_entries("sp_model_kwargs") {
        return Err(settings
            .wrong("sp_model_kwargs", "pieces that are drawn at random are for training only")
            .help("leave it empty"));
    }
    if has("added_tokens.json") && !has(TOKENIZER) && settings.added()?.is_none() {
        return Err(settings
            .wrong("added_tokens_decoder", "missing, and there is an added_tokens.json")
            .help("save the tokenizer again with transformers 4.34 or later, which writes the key"));
    }
    Ok(())
}

/// The tokenizer of a family of models whose folder does not name one.
fn class_of(family: &str) -> &'static str {
    match family {
        "t5" | "mt5" | "umt5" | "longt5" | "switch_transformers" => "T5Tokenizer",
        "marian" => "MarianTokenizer",
        "m2m_100" => "M2M100Tokenizer",
        "nllb-moe" => "NllbTokenizer",
        "mbart" => "MBartTokenizer",
        "pegasus" | "pegasus_x" | "bigbird_pegasus" => "PegasusTokenizer",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
