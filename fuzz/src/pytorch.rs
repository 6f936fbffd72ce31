//! Checkpoints of PyTorch and NumPy.

use std::io::Write as _;

use s2s::import::pytorch;

use super::properties::looked_at;

/// A file of any bytes: an archive, a pickle of the older format, arrays, safetensors.
pub(crate) fn file(data: &[u8]) {
    looked_at(pytorch::read_bytes(data.to_vec()));
}

/// Any bytes as the pickle of an archive, in which each of a few storages has 64 zeros.
pub(crate) fn pickle(data: &[u8]) {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let mut add = |name: &str, bytes: &[u8]| {
        zip.start_file(name, options).expect("names differ");
        zip.write_all(bytes).expect("memory takes all");
    };
    add("model/data.pkl", data);
    for key in 0..4 {
        add(&format!("model/data/{key}"), &[0; 64]);
    }
    let bytes = zip.finish().expect("memory takes all").into_inner();
    looked_at(pytorch::read_bytes(bytes));
}
