#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use s2s_runtime::vocabulary::PaddingSide;

use super::*;
use crate::error::ErrorKind;
use crate::families::recurrent::Run;
use crate::train::Which;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keras").join(name)
}

fn options(model: &str) -> Options {
    Options {
        model: fixture(model),
        decoder: None,
        config: None,
        origin: Origin::Pairs { file: fixture("pairs.tsv"), samples: 10_000 },
        name: None,
        filling: Filling::Auto,
        side: PaddingSide::Right,
        source_length: None,
        target_length: None,
        licence: None,
        attribution: None,
    }
}

/// A layer as Keras 2 writes it.
fn layer(class: &str, name: &str, config: Value, calls: Value) -> Value {
    let mut all = json!({ "name": name });
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    json!({ "class_name": class, "name": name, "config": all, "inbound_nodes": calls })
}

fn lstm(name: &str, sequences: bool, calls: Value) -> Value {
    let config = json!({ "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": true, "return_sequences": sequences,
                         "return_state": true, "stateful": false, "go_backwards": false });
    layer("LSTM", name, config, calls)
}

/// The tutorial's model, `change`d.
fn config(change: impl FnOnce(&mut Vec<Value>)) -> Value {
    let mut layers = vec![
        layer("InputLayer", "input_1", json!({}), json!([])),
        layer("InputLayer", "input_2", json!({}), json!([])),
        lstm("lstm", false, json!([[["input_1", 0, 0, {}]]])),
        lstm("lstm_1", true, json!([[["input_2", 0, 0, {}], ["lstm", 0, 1, {}], ["lstm", 0, 2, {}]]])),
        layer("Dense", "dense", json!({ "activation": "softmax" }), json!([[["lstm_1", 0, 0, {}]]])),
    ];
    change(&mut layers);
    json!({ "class_name": "Functional", "config": { "name": "model", "layers": layers, "output_layers": [["dense", 0, 0]] } })
}

fn refusal(change: impl FnOnce(&mut Vec<Value>)) -> String {
    let error = parts::find(&config(change)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.help_text().is_some(), "{error}");
    error.message().to_owned()
}

#[test]
fn the_parts_are_found_by_their_connections_not_their_names() {
    let model = parts::find(&config(|_| ())).unwrap();
    assert_eq!(
        (model.encoder.layers, model.decoder.layers, model.dense),
        (vec!["lstm".into()], vec!["lstm_1".into()], "dense".into())
    );
    assert!(model.encoder.masked == parts::Masked::Nothing && model.encoder.embedding.is_none());

    // Dropout in between, the softmax apart, the dense layer per step, ids that are masked, the encoder named
    // last.
    let model = parts::find(&config(|layers| {
        layers.push(layer(
            "Embedding",
            "words",
            json!({ "mask_zero": true }),
            json!([[["input_1", 0, 0, {}]]]),
        ));
        layers.push(layer("Dropout", "drop", json!({}), json!([[["words", 0, 0, {}]]])));
        layers[2] = lstm("z", false, json!([[["drop", 0, 0, {}]]]));
        layers[3]["inbound_nodes"] =
            json!([[["input_2", 0, 0, { "initial_state": [["z", 0, 1], ["z", 0, 2]] }]]]);
        let dense = json!({ "layer": { "class_name": "Dense", "config": { "activation": "linear" } } });
        layers[4] = layer("TimeDistributed", "each", dense, json!([[["lstm_1", 0, 0, {}]]]));
        layers.push(layer(
            "Activation",
            "dense",
            json!({ "activation": "softmax" }),
            json!([[["each", 0, 0, {}]]]),
        ));
    }))
    .unwrap();
    assert_eq!(
        (model.encoder.layers, model.encoder.embedding, model.encoder.masked),
        (vec!["z".to_owned()], Some("words".to_owned()), parts::Masked::IdZero)
    );
    assert_eq!(model.dense, "each");
}

#[test]
fn layers_that_compute_something_else_are_named_with_their_key() {
    for (key, value, said) in [
        ("activation", json!("relu"), "layer \"lstm\": activation is relu; only tanh"),
        ("recurrent_activation", json!("relu"), "recurrent_activation is relu; only sigmoid or hard_sigmoid"),
        ("stateful", json!(true), "stateful is true; only false"),
        ("go_backwards", json!(true), "go_backwards is true; only false"),
    ] {
        let message = refusal(|layers| layers[2]["config"][key] = value);
        assert!(message.contains(said), "{message}");
    }
    let message = refusal(|layers| layers[3]["config"]["return_sequences"] = json!(false));
    assert!(message.contains("\"lstm_1\": return_sequences is false; only true"), "{message}");
    let message = refusal(|layers| layers[4]["config"]["activation"] = json!("sigmoid"));
    assert!(message.contains("\"dense\": activation is sigmoid"), "{message}");
}

#[test]
fn models_of_another_form_are_named_with_their_layers() {
    for (said, change) in [
        (
            "of different kinds",
            Box::new(|l: &mut Vec<Value>| {
                l[2]["config"]["recurrent_activation"] = json!("hard_sigmoid");
            }) as Box<dyn FnOnce(&mut Vec<Value>)>,
        ),
        (
            "is no part of the encoder",
            Box::new(|l| {
                // Its h is another layer's than the one below it.
                l.push(lstm("beside", false, json!([[["input_1", 0, 0, {}]]])));
                l.push(lstm(
                    "above",
                    true,
                    json!([[["lstm_1", 0, 0, {}], ["beside", 0, 1, {}], ["beside", 0, 2, {}]]]),
                ));
                l[4]["inbound_nodes"] = json!([[["above", 0, 0, {}]]]);
            }),
        ),
        ("no initial_state", Box::new(|l| l[3]["inbound_nodes"] = json!([[["input_2", 0, 0, {}]]]))),
        (
            "in this order",
            Box::new(|l| {
                l[3]["inbound_nodes"] =
                    json!([[["input_2", 0, 0, {}], ["lstm", 0, 2, {}], ["lstm", 0, 1, {}]]]);
            }),
        ),
        (
            "is Conv1D where LSTM, GRU",
            Box::new(|l| {
                l.push(layer("Conv1D", "conv", json!({}), json!([[["input_1", 0, 0, {}]]])));
                l[2]["inbound_nodes"] = json!([[["conv", 0, 0, {}]]]);
            }),
        ),
        ("is Attention where Dense", Box::new(|l| l[4]["class_name"] = json!("Attention"))),
        ("there is no LSTM or GRU", Box::new(|l| l[4]["inbound_nodes"] = json!([[["input_2", 0, 0, {}]]]))),
        ("never called", Box::new(|l| l[4]["inbound_nodes"] = json!([[["lstm_1", 3, 0, {}]]]))),
    ] {
        let message = refusal(change);
        assert!(message.contains(said), "{said}: {message}");
    }
    let message = refusal(|layers| layers[2]["class_name"] = json!("Conv1D"));
    assert!(message.contains("lstm (Conv1D)") && message.contains("dense (Dense)"), "{message}");
    let error = parts::find(&json!({ "class_name": "Sequential", "config": { "layers": [] } })).unwrap_err();
    assert!(error.message().contains("Sequential"), "{error}");
}

#[test]
fn a_model_that_goes_in_a_circle_is_refused() {
    let message = refusal(|layers| {
        layers.push(layer("Dropout", "a", json!({}), json!([[["b", 0, 0, {}]]])));
        layers.push(layer("Dropout", "b", json!({}), json!([[["a", 0, 0, {}]]])));
        layers[2]["inbound_nodes"] = json!([[["a", 0, 0, {}]]]);
    });
    assert!(message.contains("circle"), "{message}");
}

#[test]
fn the_vocabulary_of_pairs_is_the_tutorials_to_the_letter() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.txt");
    // The last line has no newline: the tutorial leaves it out. Carriage returns are newlines to Python.
    fs::write(&file, "ba\tB\u{e9}\tattribution\r\nab!\tA\r\nz\tZ").unwrap();
    let origin = Origin::Pairs { file: file.clone(), samples: 10 };
    let symbols = vocabulary::read(&origin, 3, 5).unwrap();
    let numbered =
        |list: &[&str]| list.iter().enumerate().map(|(row, s)| ((*s).to_owned(), row)).collect::<Vec<_>>();
    assert_eq!(symbols.source, numbered(&["!", "a", "b"]));
    assert_eq!(symbols.target, numbered(&["\t", "\n", "A", "B", "\u{e9}"]));
    assert_eq!((symbols.longest_source, symbols.longest_target, symbols.pairs), (3, 4, 2));
    assert_eq!(
        symbols.examples.iter().map(|pair| (pair.source.as_str(), pair.target.as_str())).collect::<Vec<_>>(),
        [("ba", "B\u{e9}"), ("ab!", "A")]
    );
    // One row more in the model: row 0 is padding.
    assert_eq!(vocabulary::read(&origin, 4, 6).unwrap().source[0], ("!".to_owned(), 1));
    let error = vocabulary::read(&origin, 9, 5).err().unwrap();
    assert!(
        error.message().contains("9 source rows") && error.help_text().unwrap().contains("--num-samples"),
        "{error}"
    );
    fs::write(&file, "a\tb\nno tab\n").unwrap();
    assert!(vocabulary::read(&origin, 1, 3).err().unwrap().to_string().contains("pairs.txt:2"));
}

#[test]
fn vocabulary_files_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("v.json");
    let read = |json: Value| {
        fs::write(&file, json.to_string()).unwrap();
        vocabulary::read(&Origin::File(file.clone()), 2, 3)
    };
    let good = read(json!({ "input_token_index": { "b": 1, "a": 0 }, "target": ["\t", "\n", "x"] })).unwrap();
    assert_eq!(good.source, [("a".to_owned(), 0), ("b".to_owned(), 1)]);
    for (json, said) in [
        (json!({ "source": ["a", "b"] }), "missing field `target`"),
        (json!({ "source": ["a", "b"], "target": ["\t", "\n", "x"], "sauce": 1 }), "unknown field `sauce`"),
        (json!({ "source": ["a"], "target": ["\t", "\n", "x"] }), "2 source rows"),
        (json!({ "source": { "a": 0, "b": 0 }, "target": ["\t", "\n", "x"] }), "same row 0"),
        (json!({ "source": { "a": -1 }, "target": ["\t", "\n", "x"] }), "no whole number"),
        (json!({ "source": 3, "target": ["\t", "\n", "x"] }), "neither"),
        (json!({ "source": ["a", "b"], "target": ["<s>", "\n", "x"] }), "\"\\t\", with which targets start"),
        (
            json!({ "source": ["a", "b"], "target": ["\t", "\n", "x"], "end": "</s>" }),
            "with which targets end",
        ),
    ] {
        let error = read(json.clone()).err().unwrap();
        assert!(error.to_string().contains(said), "{json}: {error}");
        assert!(error.to_string().contains("v.json"), "{error}");
    }
    // Words must be called words.
    let words =
        json!({ "source": ["hello", "you"], "target": ["<s>", "</s>", "x"], "start": "<s>", "end": "</s>" });
    let symbols = read(words.clone()).unwrap();
    assert!(vocabulary::source(&symbols, None, false).err().unwrap().help_text().unwrap().contains("token"));
    let mut words = words;
    words["unit"] = json!("token");
    words["unknown"] = json!("you");
    let symbols = read(words).unwrap();
    let source = vocabulary::source(&symbols, None, false).unwrap();
    assert_eq!(
        (&source.spec.symbols[4..], &source.rows[..]),
        (&["hello".to_owned()][..], &[None, None, None, Some(1), Some(0)][..])
    );
    assert_eq!(vocabulary::target(&symbols, false).unwrap().rows, [None, Some(0), Some(1), None, Some(2)]);
    assert!(
        vocabulary::source(&symbols, None, true)
            .err()
            .unwrap()
            .message()
            .contains("id 0, which the model's Embedding masks")
    );
}

#[test]
fn padding_that_does_not_fit_the_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |options: Options, said: &str| {
        let error = import(&options, &folder.path().join("run"), false).unwrap_err();
        assert!(error.message().contains(said) && error.kind() == ErrorKind::Usage, "{error}");
        assert!(!folder.path().join("run").exists(), "nothing is written");
    };
    refuse(Options { filling: Filling::Zeros, ..options("embedding.h5") }, "no row of zeros");
    refuse(
        Options { filling: Filling::Symbol("#".to_owned()), ..options("one_hot.h5") },
        "\"#\" is no symbol",
    );
    refuse(Options { filling: Filling::IdZero, ..options("masked.h5") }, "masks padding");
    refuse(Options { name: Some("a/b".to_owned()), ..options("one_hot.h5") }, "cannot name a folder");
    let unknown = folder.path().join("v.json");
    let written: Value =
        serde_json::from_str(&fs::read_to_string(fixture("one_hot_vocabulary.json")).unwrap()).unwrap();
    fs::write(&unknown, json!({ "source": written["source"], "target": written["target"] }).to_string())
        .unwrap();
    refuse(Options { origin: Origin::File(unknown), ..options("one_hot.h5") }, "up to which length");
}

#[test]
fn a_run_that_is_there_is_kept_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    import(&options("one_hot.h5"), &output, false).unwrap();
    let before = fs::read(output.join("checkpoints/best.safetensors")).unwrap();
    let error = import(&options("keras2.h5"), &output, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(fs::read(output.join("checkpoints/best.safetensors")).unwrap(), before);
    import(&options("keras2.h5"), &output, true).unwrap();
    assert_eq!(Run::open(&output).unwrap().config.name, "keras2");
}

#[test]
fn the_same_model_in_both_formats_gives_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one_hot", "masked"] {
        let [old, new] = ["h5", "keras"].map(|extension| {
            let output = folder.path().join(format!("{name}.{extension}"));
            import(&options(&format!("{name}.{extension}")), &output, false)
                .unwrap()
                .run
                .parameters(Which::Best)
                .unwrap()
        });
        assert_eq!(old, new, "{name}");
    }
}

#[test]
fn files_that_are_no_models_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.h5");
    let refusal = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let error = import(
            &Options { model: file.clone(), ..options("one_hot.h5") },
            &folder.path().join("run"),
            false,
        )
        .unwrap_err();
        assert!(error.kind() == ErrorKind::Data && error.to_string().contains("model.h5"), "{error}");
        error.message().to_owned()
    };
    assert!(refusal(b"").contains("neither"));
    assert!(refusal(b"PK\x03\x04").contains("list of files"));
    assert!(refusal(b"\x89HDF\r\n\x1a\n").contains("damaged"));
    // The weights file within a .keras has no description of the layers.
    let zip = fs::File::open(fixture("masked.keras")).unwrap();
    let mut weights = Vec::new();
    let mut zip = zip::ZipArchive::new(zip).unwrap();
    std::io::Read::read_to_end(&mut zip.by_name("model.weights.h5").unwrap(), &mut weights).unwrap();
    assert!(refusal(&weights).contains("only weights"));
    let error = import(
        &Options { model: folder.path().join("none.h5"), ..options("one_hot.h5") },
        folder.path(),
        false,
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn damaged_files_never_panic_and_never_give_half_a_model() {
    let mut refused = 0;
    for name in ["keras2.h5", "masked.keras"] {
        let whole = fs::read(fixture(name)).unwrap();
        let mut damage: Vec<Vec<u8>> = (0..24).map(|i| whole[..whole.len() * i / 24].to_vec()).collect();
        // Structure lies at the beginning of HDF5 files, and at both ends of the zip.
        for at in (0..600.min(whole.len())).chain((600..whole.len()).step_by(whole.len() / 150)) {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            damage.push(changed);
        }
        for bytes in damage {
            match file::read(bytes, None).and_then(|saved| {
                let model = parts::find(&saved.config)?;
                weights::Tensors::gather(&model, &saved).map(|tensors| tensors.architecture.hidden)
            }) {
                Ok(hidden) => assert!(hidden > 0),
                Err(error) => {
                    refused += 1;
                    assert!(matches!(error.kind(), ErrorKind::Data), "{error}");
                }
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn arrays_that_a_file_cannot_hold_are_refused_before_they_are_read() {
    use hdf5_pure::{AttrValue, FileBuilder};
    let mut builder = FileBuilder::new();
    builder.set_attr("model_config", AttrValue::String(config(|_| ()).to_string()));
    let mut layers = builder.create_group("model_weights");
    let mut layer = layers.create_group("lstm");
    // Compressed zeros: 80 MB of them in a file of a few kilobytes.
    layer
        .create_dataset("kernel")
        .with_f32_data(&vec![0.0; 20_000_000])
        .with_shape(&[20, 1_000_000])
        .with_chunks(&[20, 100_000])
        .with_deflate(6);
    layers.add_group(layer.finish());
    builder.add_group(layers.finish());
    let bytes = builder.finish().unwrap();
    assert!(bytes.len() < 1 << 20, "{}", bytes.len());
    let error = file::read(bytes, None).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Data && error.message().contains("larger than the file can hold"),
        "{error}"
    );
}

#[test]
fn a_member_of_a_zip_that_unpacks_to_more_than_a_model_can_is_refused() {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("config.json", zip::write::SimpleFileOptions::default()).unwrap();
    (0..80).for_each(|_| zip.write_all(&vec![b' '; 1 << 20]).unwrap());
    let bytes = zip.finish().unwrap().into_inner();
    assert!(bytes.len() < 1 << 20);
    let error = file::read(bytes, None).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Data
            && error.message().contains("config.json in it is longer than 64 MiB"),
        "{error}"
    );
}

/// Members of the archive of small models in a folder of their own.
fn unpacked(prefix: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut zip = zip::ZipArchive::new(fs::File::open(fixture("kinds.zip")).unwrap()).unwrap();
    for at in 0..zip.len() {
        let mut member = zip.by_index(at).unwrap();
        let Some(name) = member.name().unwrap().strip_prefix(prefix).map(str::to_owned) else { continue };
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::io::copy(&mut member, &mut fs::File::create(path).unwrap()).unwrap();
    }
    folder
}

#[test]
fn damaged_checkpoints_never_panic_and_say_which_file() {
    let folder = unpacked("saved_model.k2.savedmodel/");
    let path = folder.path();
    let gather = || {
        let (saved, _) = file::open(path, None)?;
        let model = parts::find(&saved.config)?;
        weights::Tensors::gather(&model, &saved).map(|tensors| tensors.architecture.hidden)
    };
    assert_eq!(gather().unwrap(), 12);
    let mut refused = 0;
    for name in ["variables/variables.index", "variables/variables.data-00000-of-00001", "keras_metadata.pb"]
    {
        let whole = fs::read(path.join(name)).unwrap();
        let mut damage: Vec<Vec<u8>> = (0..12).map(|i| whole[..whole.len() * i / 12].to_vec()).collect();
        for at in (0..whole.len()).step_by(whole.len() / 200 + 1) {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            damage.push(changed);
        }
        for bytes in damage {
            fs::write(path.join(name), bytes).unwrap();
            if let Err(error) = gather() {
                refused += 1;
                assert!(error.kind() == ErrorKind::Data && error.help_text().is_some(), "{error}");
            }
        }
        fs::write(path.join(name), whole).unwrap();
    }
    assert!(refused > 100, "{refused}");
    fs::remove_file(path.join("keras_metadata.pb")).unwrap();
    let error = gather().unwrap_err();
    assert!(error.message().contains("no keras_metadata.pb"), "{error}");
    assert!(error.help_text().unwrap().contains("--config"), "{error}");
    fs::remove_dir_all(path.join("variables")).unwrap();
    assert!(gather().unwrap_err().message().contains("a folder without variables"));
}

#[test]
fn hard_sigmoids_are_those_of_the_version_that_saved_them() {
    use crate::network::GateActivation;
    let folder = unpacked("hard_sigmoid.");
    for (name, expected) in
        [("k2.h5", GateActivation::HardSigmoidFifth), ("k3.keras", GateActivation::HardSigmoidSixth)]
    {
        let (mut saved, _) = file::open(&folder.path().join(name), None).unwrap();
        let model = parts::find(&saved.config).unwrap();
        let tensors = weights::Tensors::gather(&model, &saved).unwrap();
        assert_eq!(tensors.architecture.gate_activation, expected, "{name}");
        saved.version = "unknown".to_owned();
        let error = weights::Tensors::gather(&model, &saved).err().unwrap();
        assert!(error.message().contains("does not say which version"), "{error}");
    }
}

#[test]
fn forms_of_more_than_the_tutorial_are_found() {
    use crate::network::{AttentionOutput, AttentionScore, Cell};
    let architecture = |name: &str| {
        let folder = unpacked(&format!("{name}."));
        let (saved, _) = file::open(&folder.path().join("k3.keras"), None).unwrap();
        let model = parts::find(&saved.config).unwrap();
        weights::Tensors::gather(&model, &saved).unwrap().architecture
    };
    let uneven = architecture("uneven");
    assert_eq!((uneven.layers, uneven.decoder_layers, uneven.hand_over), (3, Some(1), Some(vec![Some(2)])));
    assert_eq!(architecture("top_states").hand_over, Some(vec![Some(1), Some(1)]));
    assert_eq!(architecture("deep_decoder").hand_over, Some(vec![Some(0), None]));
    assert_eq!(architecture("gru_reset_before").cell, Cell::GruResetBefore);
    let additive = architecture("attention_additive");
    assert_eq!(
        (additive.attention, additive.attention_output),
        (AttentionScore::Additive, AttentionOutput::Concatenated)
    );
}
