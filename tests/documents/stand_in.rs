//! Files of the form of the public data sets, of a few made-up lines, where the documents expect the real
//! ones.

use std::io::Write;
use std::path::Path;

/// Writes them below `folder`.
pub(crate) fn write(folder: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let (english, chinese) = (["cold", "warm", "late", "here", "well"], ["冷", "暖", "迟", "在", "好"]);
    let pair = |i: usize| format!("I am {} {i}.\t我{}{i}。\n", english[i % 5], chinese[i % 5]);
    write("manythings/cmn-tw.txt", (0..200).map(pair).collect::<String>().as_bytes());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for i in 0..60 {
        let pixels = (0..784).map(|p| format!("{},", (p * (i % 10 + 1)) % 256)).collect::<String>();
        writeln!(gzip, "{pixels}{}", i % 10).unwrap();
    }
    write("mnist/mnist_5k.csv.gz", &gzip.finish().unwrap());
}
