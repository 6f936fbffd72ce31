//! Models that Keras saved.

use std::io::Write as _;

use s2s::import::keras;

use super::input::Input;
use super::properties::looked_at;

fn read(bytes: Vec<u8>) {
    static QUIET: std::sync::Once = std::sync::Once::new();
    // Panics of the HDF5 reader are caught by the importer: libFuzzer's hook must not end the process there.
    QUIET.call_once(|| {
        let ending = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|place| place.file().contains("hdf5-pure")) {
                ending(panic);
            }
        }));
    });
    looked_at(keras::read_bytes(bytes));
}

/// HDF5 of any bytes.
pub(crate) fn h5(data: &[u8]) {
    read(data.to_vec());
}

/// A `.keras` file: any bytes, or a config and the plain weights, or plain config and weights.
pub(crate) fn zip(data: &[u8]) {
    if data.starts_with(b"PK") {
        return read(data.to_vec());
    }
    let mut input = Input::new(data);
    let metadata = input.flag();
    let config = input.until(0);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let mut add = |name: &str, bytes: &[u8]| {
        zip.start_file(name, options).expect("names differ");
        zip.write_all(bytes).expect("memory takes all");
    };
    add("config.json", config);
    if metadata {
        add("metadata.json", input.until(0));
    }
    add("model.weights.h5", input.rest());
    let bytes = zip.finish().expect("memory takes all").into_inner();
    read(bytes);
}
