//! The bundle that the project ships: it stays readable, small and right, in every later version.

use std::path::Path;

use s2s::config::checked::DatesTask;
use s2s::data::dates::task;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::EngineKind;
use s2s_runtime::translator::Translator;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/exported/dates");

fn translate(texts: &[&str]) -> Vec<String> {
    let mut translator = Translator::open(SHIPPED, EngineKind::Tract).unwrap();
    translator
        .translate(texts, &DecodingOptions::default())
        .unwrap()
        .into_iter()
        .map(|t| t.best.text)
        .collect()
}

#[test]
fn the_shipped_bundle_reads_dates_as_people_write_them() {
    let texts = ["Sunday, May the 3rd, 1998", "29 feb 2024", "the 31st of December 1999", "2001.9.11"];
    assert_eq!(translate(&texts), ["1998-05-03", "2024-02-29", "1999-12-31", "2001-09-11"]);
}

#[test]
fn at_least_99_percent_of_unseen_dates_come_out_right() {
    let (_, unseen) = task(&DatesTask { train: 20_000, dev: 1_000, seed: 1 });
    let texts: Vec<&str> = unseen.iter().map(|pair| pair.source.as_str()).collect();
    let right = translate(&texts).iter().zip(&unseen).filter(|(text, pair)| **text == pair.target).count();
    assert!(right * 100 >= unseen.len() * 99, "{right} of {}", unseen.len());
}

#[test]
fn the_shipped_bundle_is_under_two_megabytes() {
    let bytes: u64 =
        Path::new(SHIPPED).read_dir().unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 2_000_000, "{bytes} bytes");
}
