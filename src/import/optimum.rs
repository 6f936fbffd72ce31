//! A folder that Optimum wrote, as a bundle: one encoder, one step, hashes, a self test, the record of a
//! verification.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use s2s_kernels::random::Random;
use s2s_runtime::bundle::{Bundle, sha256};
use s2s_runtime::checked::CheckedModel;
use s2s_runtime::contract::file;
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::manifest::{Manifest, Provenance, Role};
use s2s_runtime::printable;
use s2s_runtime::self_test::SelfTest;
use s2s_runtime::vocabulary::{Encoded, LanguageIds, Tokeniser};

use crate::error::{Error, ErrorKind, Result};
use crate::export::{
    Dtype, Replace, Report, VerifyOptions, front_matter, verify_path, with_smaller_weights, write_verified,
};

/// Tokens of the sources of the self test: enough for padding to matter.
const LENGTHS: [usize; 4] = [24, 1, 12, 3];
/// Steps after which its outputs are cut off.
const STEPS: usize = 24;
/// Random sources that say what smaller weights change.
const COMPARED: usize = 32;
/// What engines may differ by where weights are in fewer bits, which some multiply as they are, and where values are rounded to 8 bits on
/// the way, so that a rounding that falls otherwise is seen.
const HALF: f32 = 1e-2;
const EIGHTH: f32 = 1e-1;

/// What is imported.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder, or a zip of it.
    pub folder: PathBuf,
    /// The model's name; that of the folder unless it is said.
    pub name: Option<String>,
    /// Licence of the model.
    pub licence: Option<String>,
    /// Attribution that the licence asks for.
    pub attribution: Option<String>,
    /// How weights are stored.
    pub dtype: Dtype,
    /// Replace what lies in the bundle's folder, if it is any bundle.
    pub force: bool,
}

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// The checks that the bundle passed.
    pub report: Report,
    /// What the folder asks for and is not honoured; and what smaller weights change.
    pub remarks: Vec<String>,
}

/// Writes the bundle: beside its place, verified there, and moved to it only if every check passed.
///
/// # Errors
/// [`ErrorKind::Usage`] for a folder that is a bundle already, and for a place that is taken;
/// [`ErrorKind::Parity`] if a check fails; as [`Bundle::open`] and the engines.
pub fn import(options: &Options, output: &Path, verification: &VerifyOptions) -> Result<Imported> {
    let bundle = Bundle::open(&options.folder)?;
    if !bundle.is_made() {
        return Err(Error::new(ErrorKind::Usage, "this is a bundle already")
            .in_file(&options.folder)
            .help("name a folder that `optimum-cli export onnx` wrote; `s2s verify` checks a bundle"));
    }
    let mut manifest = bundle.hashed_manifest();
    if let Some(name) = &options.name {
        manifest.name.clone_from(name);
    }
    if options.licence.is_some() || options.attribution.is_some() {
        manifest.provenance = Some(Provenance {
            licence: options.licence.clone(),
            attribution: options.attribution.clone(),
            ..Provenance::default()
        });
    }
    let replace = if options.force { Replace::AnyBundle } else { Replace::OlderOf(manifest.name.clone()) };
    let mut remarks = bundle.remarks().to_vec();
    let files = files(&bundle, manifest, options.dtype, &mut remarks)?;
    let report = write_verified(&files, output, &replace, |folder| verify_path(folder, verification, true))?;
    Ok(Imported { report, remarks })
}

/// All files but the record.
fn files(
    bundle: &Bundle,
    mut manifest: Manifest,
    dtype: Dtype,
    remarks: &mut Vec<String>,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let graphs = manifest.graphs.values().map(|graph| graph.file.as_str());
    let names: Vec<String> = graphs.chain(manifest.tokeniser_files()).map(str::to_owned).collect();
    for name in names {
        let bytes = bundle
            .file(&name)
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("{name:?} is listed and was not read")))?;
        files.insert(name, bytes.to_vec());
    }
    let smaller = match dtype {
        Dtype::F32 => None,
        _ => Some(smaller(&mut files, &mut manifest, dtype)?),
    };
    let written = smaller.as_ref().unwrap_or(bundle);
    let record = |bundle: &Bundle, lengths: &[usize]| {
        let mut engine = engine::open(bundle, EngineKind::Auto)?;
        SelfTest::record(&mut *engine, &manifest.wiring, &sources(&**bundle.source(), lengths), STEPS)
    };
    let test = record(written, &LENGTHS)?;
    if smaller.is_some() {
        let lengths: Vec<usize> = LENGTHS.into_iter().cycle().take(COMPARED).collect();
        remarks.push(difference(dtype, &record(bundle, &lengths)?, &record(written, &lengths)?));
    }
    files.insert(file::SELF_TEST.to_owned(), SelfTest { tolerance: tolerance(written)?, ..test }.to_json()?);
    files.insert(file::README.to_owned(), readme(&manifest).into_bytes());
    let graphs: Vec<String> = manifest.graphs.values().map(|graph| graph.file.clone()).collect();
    let others = files.iter().filter(|(name, _)| !graphs.contains(name));
    manifest.files = others.map(|(name, bytes)| (name.clone(), sha256(bytes))).collect();
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml()?.into_bytes());
    Ok(files)
}

/// Stores the weights of all graphs smaller, and gives the bundle of them.
fn smaller(files: &mut BTreeMap<String, Vec<u8>>, manifest: &mut Manifest, dtype: Dtype) -> Result<Bundle> {
    for graph in manifest.graphs.values_mut() {
        if let Some(bytes) = files.get_mut(&graph.file) {
            *bytes = with_smaller_weights(&graph.file, bytes, dtype)?;
            graph.sha256 = sha256(bytes);
        }
    }
    let mut all = files.clone();
    all.insert(file::MANIFEST.to_owned(), manifest.to_yaml()?.into_bytes());
    Bundle::from_files("the new bundle", all)
}

/// What smaller weights change, in a sentence: how many of the same sources become the same tokens, and how
/// far the first scores move.
fn difference(dtype: Dtype, before: &SelfTest, after: &SelfTest) -> String {
    let pairs = || before.cases.iter().zip(&after.cases);
    let same = pairs().filter(|(before, after)| before.output_ids == after.output_ids).count();
    let moved = pairs().flat_map(|(before, after)| {
        let score = |id: u32| after.first_logits.iter().find(|(other, _)| *other == id).map(|(_, x)| *x);
        before.first_logits.iter().filter_map(move |&(id, x)| Some((score(id)? - x).abs()))
    });
    let largest = moved.fold(0.0f32, f32::max);
    format!(
        "with {dtype} weights {same} of {} random sources become the same {STEPS} tokens as with f32 weights, \
         and the highest scores of the first token move by up to {largest:.2}; `s2s eval` says what that \
         costs on pairs of yours",
        before.cases.len(),
    )
}

/// Sources of these lengths, random but the same for the same model, framed as texts are.
fn sources(tokeniser: &dyn Tokeniser, lengths: &[usize]) -> Vec<Vec<u32>> {
    let special = tokeniser.special_ids().all();
    let mut random = Random::new(1, 0);
    let mut ordinary = || {
        // Few ids are special; a model without others says the last.
        let drawn = (0..64).map(|_| random.below(tokeniser.size()) as u32);
        let mut last = 0;
        for id in drawn {
            last = id;
            if !special.contains(&id) {
                break;
            }
        }
        last
    };
    lengths
        .iter()
        .map(|&length| {
            let ids: Vec<u32> = (0..length).map(|_| ordinary()).collect();
            let symbols = ids.iter().map(|_| "").collect();
            let mut source = Encoded { ids, symbols, unknown: Vec::new() };
            tokeniser.frame(&mut source, LanguageIds::default());
            source.ids
        })
        .collect()
}

/// What engines may differ by, from how the graphs round.
fn tolerance(bundle: &Bundle) -> Result<f32> {
    const FLOAT16: i32 = 10;
    let mut tolerance = SelfTest::TOLERANCE;
    for role in [Role::Encoder, Role::Decoder] {
        let model = CheckedModel::read(bundle.graph_name(role), bundle.graph(role)?)?;
        let graph = model.graph();
        let restored = graph.all_nodes().iter().any(|node| node.op_type == "DequantizeLinear");
        if restored || graph.initializer.iter().any(|tensor| tensor.data_type == FLOAT16) {
            tolerance = tolerance.max(HALF);
        }
        let rounds =
            |op: &str| op.contains("Integer") || op.contains("Quantize") || op.starts_with("QLinear");
        if graph.all_nodes().iter().any(|node| rounds(&node.op_type)) {
            tolerance = tolerance.max(EIGHTH);
        }
    }
    Ok(tolerance)
}

/// README.md: what the files are and how they are used.
fn readme(manifest: &Manifest) -> String {
    let tags = ["onnx", "seq2seq", "transformers"];
    let provenance = manifest.provenance.as_ref();
    let mut out = front_matter(&manifest.name, manifest.languages.as_ref(), provenance, &tags, "translation");
    let name = printable::line(&manifest.name);
    let producer = printable::line(&manifest.producer);
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "# {name}\n\nA sequence-to-sequence model ({producer}), imported by s2s: an encoder that gives keys \
         and values once a text, and\na decoder of one step.\n"
    );
    let _ = writeln!(out, "| file | what it is |\n|---|---|");
    let state = if manifest.wiring.decoder_prefix {
        "all tokens so far to the scores of the next"
    } else {
        "one decoding step: a token and the keys and values so far, none at first, to the scores of the next \
         token"
    };
    let mut row = |name: &str, what: &str| {
        let _ = writeln!(out, "| `{name}` | {what} |");
    };
    row(file::ENCODER, "source ids and their mask to what each step reads");
    row(file::DECODER, state);
    for name in manifest.tokeniser_files().collect::<std::collections::BTreeSet<_>>() {
        row(&printable::line(name), "the tokenizer's, as it came");
    }
    row(file::MANIFEST, "manifest: hashes, wiring, tokenizers, decoding defaults");
    row(file::SELF_TEST, "vectors that are checked whenever s2s opens the bundle");
    row(file::CONFORMANCE, "what `s2s verify` measured, for each engine");
    let _ = writeln!(
        out,
        "\n## Use it\n\nFrom this folder, with `s2s`:\n\n```sh\ns2s translate . \"a text\"   # more texts as \
         arguments, or lines on stdin\ns2s verify . --no-write   # every graph in every engine that is \
         here\n```\n\n`s2s serve-local .` answers over HTTP and has a page to try it."
    );
    for (what, text) in [
        ("Licence", provenance.and_then(|provenance| provenance.licence.as_deref())),
        ("Attribution", provenance.and_then(|provenance| provenance.attribution.as_deref())),
    ] {
        if let Some(text) = text {
            let _ = writeln!(out, "\n{what}: {}", printable::line(text));
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use s2s_runtime::translator::Translator;

    use super::*;

    #[test]
    fn an_imported_folder_says_what_the_folder_says_and_is_refused_a_second_time() {
        let place = tempfile::tempdir().unwrap();
        for family in ["marian", "byt5", "t5"] {
            let folder =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/optimum").join(format!("{family}.zip"));
            let options = Options {
                folder: folder.clone(),
                name: None,
                licence: Some("CC0-1.0".to_owned()),
                attribution: None,
                dtype: Dtype::F32,
                force: false,
            };
            let output = place.path().join(family);
            let verification = VerifyOptions { random: 4, ..VerifyOptions::default() };
            let imported = import(&options, &output, &verification).unwrap();
            assert!(imported.report.passed && imported.remarks.is_empty());
            let (made, written) = (Bundle::open(&folder).unwrap(), Bundle::open(&output).unwrap());
            assert!(made.is_made() && !written.is_made());
            for name in [file::SELF_TEST, file::CONFORMANCE, file::README] {
                assert!(written.manifest().files.contains_key(name), "{name}");
            }
            let said = |bundle: &Bundle| {
                let engine = engine::open(bundle, EngineKind::Auto).unwrap();
                let mut translator = Translator::new(bundle, engine);
                let texts = ["Large over window small new sees!", "Music"];
                let said = translator.translate(&texts, &bundle.manifest().decoding).unwrap();
                said.into_iter().map(|translation| translation.best.text).collect::<Vec<_>>()
            };
            assert_eq!(said(&made), said(&written));
            // A bundle that changed is refused.
            let graph = output.join(file::DECODER);
            let mut bytes = std::fs::read(&graph).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&graph, bytes).unwrap();
            assert!(Bundle::open(&output).is_err());
            let again = Options { folder: output.clone(), ..options };
            assert!(import(&again, &place.path().join("again"), &verification).is_err());
        }
    }
    #[test]
    fn weights_of_an_imported_folder_are_stored_in_8_bits_where_that_is_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/optimum/marian.zip");
        let import_as = |dtype: Dtype| {
            let options = Options {
                folder: folder.clone(),
                name: None,
                licence: None,
                attribution: None,
                dtype,
                force: false,
            };
            let output = place.path().join(dtype.as_str());
            let verification = VerifyOptions { random: 4, ..VerifyOptions::default() };
            let imported = import(&options, &output, &verification).unwrap();
            assert!(imported.report.passed);
            let bundle = Bundle::open(&output).unwrap();
            let bytes = [Role::Encoder, Role::Decoder].map(|role| bundle.graph(role).unwrap().len());
            (imported.remarks, bytes.iter().sum::<usize>())
        };
        let (remarks, plain) = import_as(Dtype::F32);
        assert!(remarks.is_empty());
        let (remarks, small) = import_as(Dtype::Int8);
        // Of so small a model most bytes are nodes and names.
        assert!(small < plain, "{small} bytes of {plain}");
        assert!(remarks[0].contains("of 32 random sources become the same 24 tokens"), "{remarks:?}");
    }
}
