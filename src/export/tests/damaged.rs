//! Bundles that somebody changed: each is refused, or fails the check that says what is wrong.

use super::*;

#[test]
fn a_flipped_byte_is_refused_with_the_file_that_is_damaged() {
    for role in Role::ALL {
        let mut files = Toy::embedded().files(&ExportOptions::default());
        let bytes = files.get_mut(role.file()).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let error = refused(files);
        assert!(error.kind() == ErrorKind::Bundle && error.to_string().contains(role.file()), "{error}");
        assert!(error.message().contains("sha256"), "{error}");
    }
}

#[test]
fn a_missing_graph_is_refused_by_name() {
    for role in Role::ALL {
        let mut files = Toy::embedded().files(&ExportOptions::default());
        files.remove(role.file());
        let error = refused(files);
        assert!(error.to_string().contains(role.file()) && error.message().contains("missing"), "{error}");
    }
}

#[test]
fn a_graph_of_another_export_is_refused_even_with_its_hash_in_the_manifest() {
    let mut files = Toy::embedded().files(&ExportOptions::default());
    let other =
        Toy::new(InputForm::Embedding(5), InputForm::Embedding(6), 12, 1, 8).files(&ExportOptions::default());
    replace(&mut files, Role::Decoder, &model(&other, Role::Decoder));
    let error = refused(files);
    assert!(error.message().contains("weights") && error.to_string().contains(file::DECODER), "{error}");
}

#[test]
fn swapped_graphs_are_refused() {
    let mut files = Toy::embedded().files(&ExportOptions::default());
    let (encoder, decoder) = (model(&files, Role::Encoder), model(&files, Role::Decoder));
    replace(&mut files, Role::Encoder, &decoder);
    replace(&mut files, Role::Decoder, &encoder);
    let error = refused(files);
    assert!(
        error.message().contains("this is the decoder graph")
            || error.message().contains("this is the encoder graph"),
        "{error}"
    );
}

#[test]
fn an_edited_vocabulary_is_refused_with_the_id_that_differs() {
    let mut files = Toy::embedded().files(&ExportOptions::default());
    let mut manifest =
        Manifest::from_yaml(std::str::from_utf8(&files[file::MANIFEST]).unwrap(), "s2s.yaml").unwrap();
    manifest.source.symbols.swap(5, 6);
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml().unwrap().into_bytes());
    let error = refused(files);
    assert!(error.message().contains("source vocabulary") && error.message().contains("id 5"), "{error}");
}

/// A bundle in which one value of one tensor of one graph is another, with fitting file hashes.
fn corrupted(role: Role, tensor: &str) -> Bundle {
    let mut files = Toy::embedded().files(&ExportOptions::default());
    // The self test would notice first; here the verification is to be seen at work.
    drop_self_test(&mut files);
    let mut model = model(&files, role);
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    let tensor = tensors.iter_mut().find(|t| t.name == tensor).unwrap();
    let last = tensor.raw_data.len() - 4;
    let value = f32::from_le_bytes(tensor.raw_data[last..].try_into().unwrap()) + 0.5;
    tensor.raw_data = [&tensor.raw_data[..last], &value.to_le_bytes()].concat().into();
    replace(&mut files, role, &model);
    Bundle::from_files("toy", files).unwrap()
}

#[test]
fn one_changed_value_fails_the_check_that_says_what_it_is() {
    let options = VerifyOptions { random: 10, ..VerifyOptions::default() };
    for (role, tensor, what) in [
        (Role::Training, "encoder.lstm_0.R", "weights have the manifest's sha256"),
        (Role::Encoder, "encoder.embedding", "same weights as the training graph"),
        (Role::Decoder, "decoder.lstm_0.R", "same weights as the training graph"),
        (Role::Decoder, "decoder.lstm_0.table", "other tensors follow from the weights"),
    ] {
        let report = verify(&corrupted(role, tensor), &options).unwrap();
        assert!(!report.passed);
        assert!(
            failed(&report).iter().any(|check| check.what == what && check.subject == role.file()),
            "{tensor}\n{}",
            report.table()
        );
        assert!(
            failed(&report).iter().any(|check| check.engine.is_some()),
            "the engines notice too\n{}",
            report.table()
        );
        let error = report.check().unwrap_err();
        assert!(error.kind() == ErrorKind::Parity && error.message().contains(what), "{error}");
        assert_eq!(crate::error::exit_code(error.kind()), 5);
    }
}

#[test]
fn the_self_test_stops_a_decoder_whose_bias_was_changed() {
    let whole = Toy::embedded();
    engine::open(&whole.bundle(), EngineKind::Tract).unwrap();
    let mut files = whole.files(&ExportOptions::default());
    let changed = corrupted(Role::Decoder, "decoder.dense.bias");
    replace(&mut files, Role::Decoder, &ModelProto::decode(changed.graph(Role::Decoder).unwrap()).unwrap());
    let error = engine::open(&Bundle::from_files("toy", files).unwrap(), EngineKind::Tract).err().unwrap();
    assert!(error.kind() == ErrorKind::Parity && error.message().contains("self test"), "{error}");
}

#[test]
fn a_bundle_without_a_training_graph_is_checked_engine_against_engine_and_says_so() {
    let files = Toy::embedded().files(&ExportOptions { graphs_only: true, ..ExportOptions::default() });
    assert_eq!(
        files.keys().map(String::as_str).collect::<Vec<_>>(),
        [file::DECODER, file::ENCODER, file::MANIFEST]
    );
    let report = verify(&Bundle::from_files("toy", files).unwrap(), &VerifyOptions::default()).unwrap();
    assert!(report.passed, "{}", report.table());
    assert!(
        report.checks.iter().any(|c| c.outcome == Outcome::Skipped && c.detail.contains("no training graph")),
        "{}",
        report.table()
    );
    assert!(report.checks.iter().any(|c| c.what.contains("batch 1")), "{}", report.table());
}
