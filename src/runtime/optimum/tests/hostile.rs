//! Folders that are damaged, incomplete, or made to be costly: each is refused with what is wrong in it.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{file, model};
use crate::bundle::Bundle;
use crate::error::Error;
use crate::onnx::{DataType, Dimension, ModelProto, StringStringEntryProto};

/// The files of a family's model, changed.
fn changed(family: &str, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Result<Bundle, Error> {
    let path = model(family);
    let zip = zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    let mut files: BTreeMap<String, Vec<u8>> =
        names.into_iter().map(|name| (name.clone(), file(&path, &name))).collect();
    change(&mut files);
    Bundle::from_files(family, files)
}

/// The error about a changed model.
fn refused(family: &str, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> String {
    let error = changed(family, change).err().unwrap_or_else(|| panic!("{family} was opened"));
    let help = error.help_text().unwrap_or_default();
    format!("{error} ({help})")
}

/// Changes a graph of a model.
fn graph(files: &mut BTreeMap<String, Vec<u8>>, name: &str, change: impl FnOnce(&mut ModelProto)) {
    let mut model = ModelProto::decode(files[name].as_slice()).unwrap();
    change(&mut model);
    files.insert(name.to_owned(), model.encode_to_vec());
}

#[test]
fn a_model_opens_from_memory_as_from_its_zip() {
    let opened = changed("marian", |_| ()).unwrap();
    assert_eq!(opened.manifest().wiring, Bundle::open(model("marian")).unwrap().manifest().wiring);
    assert_eq!(opened.remarks(), [""; 0]);
}

#[test]
fn a_missing_file_is_named_with_what_needs_it() {
    let without = |family: &str, name: &'static str| refused(family, |files| drop(files.remove(name)));
    let said = without("m2m100", "decoder_model.onnx");
    assert!(said.contains("decoder_with_past_model.onnx takes the encoder's keys"), "{said}");
    let said = without("t5", "decoder_model_merged.onnx");
    assert!(said.contains("without a decoder") && said.contains("decoder_model_merged.onnx"), "{said}");
    let said = without("t5", "encoder_model.onnx");
    assert!(said.contains("not a bundle"), "{said}");
    let said = without("bart", "decoder_model.onnx_data");
    assert!(said.starts_with("bart/decoder_model.onnx_data: missing"), "{said}");
}

#[test]
fn keys_that_are_no_ids_or_not_in_the_model_are_named_with_file_and_line() {
    let said = refused("marian", |files| {
        let text = String::from_utf8(files["generation_config.json"].clone()).unwrap();
        let text = text.replace("\"eos_token_id\": 0", "\"eos_token_id\": \"zero\"");
        files.insert("generation_config.json".to_owned(), text.into_bytes());
    });
    assert!(said.starts_with("marian/generation_config.json:"), "{said}");
    assert!(said.contains(":eos_token_id: no id"), "{said}");
    let said = refused("marian", |files| {
        files.insert("config.json".to_owned(), b"{".to_vec());
    });
    assert!(said.starts_with("marian/config.json:1: no JSON object"), "{said}");
    let said = refused("t5", |files| {
        let text = String::from_utf8(files["generation_config.json"].clone()).unwrap();
        let text = text.replace("\"eos_token_id\": 1", "\"eos_token_id\": 123456");
        files.insert("generation_config.json".to_owned(), text.into_bytes());
    });
    assert!(said.contains("id 123456"), "{said}");
}

#[test]
fn what_changes_the_output_and_is_not_honoured_is_named_and_the_rest_is_not() {
    let opened = changed("t5", |files| {
        let text = String::from_utf8(files["generation_config.json"].clone()).unwrap();
        let more = "\"penalty_alpha\": 0.6, \"num_beams\": 3, \"top_k\": 20, \"diversity_penalty\": 0.0,";
        files.insert("generation_config.json".to_owned(), text.replacen('{', &format!("{{{more}"), 1).into());
    });
    let opened = opened.unwrap();
    assert_eq!(opened.remarks(), ["generation_config.json: penalty_alpha: 0.6 is not honoured"]);
    let decoding = &opened.manifest().decoding;
    // max_length counts the token that the decoder starts with.
    assert_eq!((decoding.num_beams, decoding.max_new_tokens, decoding.top_k), (Some(3), Some(63), None));
}

#[test]
fn a_merged_decoder_must_be_one() {
    let change = |change: fn(&mut ModelProto)| {
        refused("t5", |files| graph(files, "decoder_model_merged.onnx", change))
    };
    // A cycle: the If reads what it gives.
    let said = change(|model| {
        let graph = model.graph.as_mut().unwrap();
        let at = graph.node.iter().position(|node| node.op_type == "If").unwrap();
        graph.node[at].input[0] = graph.node[at].output[0].clone();
    });
    assert!(said.contains("reads its own output"), "{said}");
    let said = change(|model| {
        let graph = model.graph.as_mut().unwrap();
        let at = graph.node.iter().position(|node| node.op_type == "If").unwrap();
        graph.node[at].attribute.retain(|attribute| attribute.name == "then_branch");
    });
    assert!(said.contains("this If has no else_branch"), "{said}");
    let said = change(|model| {
        let graph = model.graph.as_mut().unwrap();
        let at = graph.node.iter().position(|node| node.op_type == "If").unwrap();
        for attribute in &mut graph.node[at].attribute {
            attribute.g.as_mut().unwrap().output.pop();
        }
    });
    assert!(said.contains("does not fit an If"), "{said}");
}

#[test]
fn inputs_and_shapes_that_no_decoder_has_are_named() {
    let said = refused("m2m100", |files| {
        graph(files, "decoder_with_past_model.onnx", |model| {
            let graph = model.graph.as_mut().unwrap();
            let input = graph.input.iter_mut().find(|input| input.name.ends_with("0.decoder.key")).unwrap();
            let tensor = input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
            tensor.shape.as_mut().unwrap().dim[1].value = Some(Dimension::Param("heads".to_owned()));
        });
    });
    assert!(said.contains("past_key_values.0.decoder.key") && said.contains("fixed heads"), "{said}");
    let said = refused("m2m100", |files| {
        graph(files, "decoder_with_past_model.onnx", |model| {
            let graph = model.graph.as_mut().unwrap();
            let mut other = graph.input[0].clone();
            "moon_phase".clone_into(&mut other.name);
            graph.input.push(other);
            let logits = graph.node.iter_mut().find(|node| node.output[0] == "logits").unwrap();
            logits.input.push("moon_phase".to_owned());
        });
    });
    assert!(said.contains("moon_phase: an input that nothing here knows"), "{said}");
}

#[test]
fn data_beside_a_graph_is_read_within_its_folder_and_its_length_alone() {
    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
    let with = |entries: Vec<StringStringEntryProto>| {
        refused("bart", |files| {
            graph(files, "encoder_model.onnx", |model| {
                let graph = model.graph.as_mut().unwrap();
                let tensors = &mut graph.initializer;
                let tensor = tensors.iter_mut().find(|tensor| tensor.data_location == 1).unwrap();
                tensor.external_data = entries;
                tensor.data_type = DataType::Float as i32;
                tensor.dims = vec![4];
            });
        })
    };
    for (location, offset, said) in [
        ("../secret", "0", "which is no file of the graph's folder"),
        ("/etc/passwd", "0", "which is no file of the graph's folder"),
        ("*/_ORT_MEM_ADDR_/*", "94000000000000", "which is no file of the graph's folder"),
        ("nowhere", "0", "missing in this Optimum folder"),
        ("encoder_model.onnx_data", "18446744073709551615", "from 18446744073709551615 on"),
        ("encoder_model.onnx_data", "-1", "offset \"-1\""),
    ] {
        let found = with(vec![entry("location", location), entry("offset", offset), entry("length", "16")]);
        assert!(found.contains(said), "{location} {offset}: {found}");
    }
    let found = with(vec![entry("location", "encoder_model.onnx_data"), entry("length", "99")]);
    assert!(found.contains("99 bytes") && found.contains("need 16"), "{found}");
    // Many tensors that name the same bytes are as large as all of them together.
    let found = refused("bart", |files| {
        files.insert("encoder_model.onnx_data".to_owned(), vec![0; 1 << 20]);
        graph(files, "encoder_model.onnx", |model| {
            let tensors = &mut model.graph.as_mut().unwrap().initializer;
            let mut tensor = tensors.iter().find(|tensor| tensor.data_location == 1).unwrap().clone();
            tensor.dims = vec![1 << 40];
            tensor.external_data = vec![entry("location", "encoder_model.onnx_data")];
            tensors.insert(0, tensor);
        });
    });
    assert!(found.contains("longer than 2 GiB"), "{found}");
}

#[cfg(unix)]
#[test]
fn data_that_a_link_leads_to_elsewhere_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = model("bart");
    let zip = zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    let store = folder.path().join("store");
    let links = folder.path().join("links");
    std::fs::create_dir(&store).unwrap();
    std::fs::create_dir(&links).unwrap();
    for name in zip.file_names().map(|name| name.unwrap().into_owned()) {
        std::fs::write(store.join(&name), file(&path, &name)).unwrap();
        // A folder of links to files that lie side by side is one model.
        std::os::unix::fs::symlink(store.join(&name), links.join(&name)).unwrap();
    }
    Bundle::open(&store).unwrap();
    Bundle::open(&links).unwrap();
    let data = store.join("encoder_model.onnx_data");
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(&data, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &data).unwrap();
    let error = Bundle::open(&store).unwrap_err();
    assert!(error.to_string().contains("a link that leads out of the folder"), "{error}");
}
