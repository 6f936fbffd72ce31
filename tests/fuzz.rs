//! The fuzz targets on stable Rust: what the fuzzers kept and whatever failed once, and seeded changes of it.
//!
//! `fuzz/README.md` says how the inputs are found. `S2S_FUZZ_RUNS` is how many changed inputs each target
//! gets.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

// One source for both: libFuzzer's build has a manifest and a lock file of its own.
#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, unreachable_pub)]
mod fuzz;

use fuzz::{TARGETS, Target};

#[global_allocator]
static MEMORY: fuzz::memory::Counting = fuzz::memory::Counting;

/// Changed inputs of each target, unless `S2S_FUZZ_RUNS` says otherwise.
const RUNS: usize = 200;
/// The longest input that changes make.
const LONGEST: usize = 1 << 16;

fn folder(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target.name)
}

/// Names and contents of the files in a folder, in order; none where there is no such folder.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).expect("the file can be read"))).collect()
}

/// What `data` does to `target`, if that is wrong.
fn broken(target: &Target, data: &[u8]) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| target.check(data))).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default())
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).expect("it is below `end`")
    }

    /// A part of `data`.
    fn part(&mut self, data: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(data.len() + 1);
        start..start + self.below((data.len() - start).min(64) + 1)
    }

    /// One change, as libFuzzer makes them.
    fn change(&mut self, data: &mut Vec<u8>, other: &[u8]) {
        const STRANGE: [&[u8]; 10] = [
            b"\xff\xff\xff\xff",
            b"\0",
            b"9999999999",
            b"-1",
            b"\xef\xbf\xbd",
            b"\x1b[0m",
            b"{",
            b"[",
            b"\"",
            b"\x7f\xff\xff\xff\xff\xff\xff\xff",
        ];
        let range = self.part(data);
        match self.below(7) {
            0 if !data.is_empty() => {
                let at = self.below(data.len());
                data[at] ^= 1 << self.below(8);
            }
            1 if !data.is_empty() => {
                let at = self.below(data.len());
                data[at] = self.below(256) as u8;
            }
            2 => drop(data.drain(range)),
            3 => drop(
                data.splice(range.start..range.start, STRANGE[self.below(STRANGE.len())].iter().copied()),
            ),
            4 => drop(data.splice(range, STRANGE[self.below(STRANGE.len())].iter().copied())),
            5 => {
                let copied = data[range.clone()].repeat(1 + self.below(4));
                data.splice(range.end..range.end, copied);
            }
            _ => {
                let from = self.part(other);
                data.splice(range, other[from].iter().copied());
            }
        }
        data.truncate(LONGEST);
    }
}

#[test]
fn every_input_that_is_kept_or_ever_failed_holds() {
    let mut failures = Vec::new();
    for target in TARGETS {
        for (path, data) in
            files(&folder("corpus", target)).into_iter().chain(files(&folder("regressions", target)))
        {
            failures.extend(broken(target, &data).map(|why| format!("{}: {why}", path.display())));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn seeded_changes_of_the_kept_inputs_hold() {
    let runs =
        std::env::var("S2S_FUZZ_RUNS").map_or(RUNS, |runs| runs.parse().expect("S2S_FUZZ_RUNS is a number"));
    for target in TARGETS {
        let kept = files(&folder("corpus", target));
        let mut random = Random(u64::from_le_bytes(*b"s2s fuzz"));
        for run in 0..runs {
            let mut data = kept.get(run % kept.len().max(1)).map_or_else(Vec::new, |(_, data)| data.clone());
            for _ in 0..=random.below(4) {
                let other = kept.get(random.below(kept.len().max(1))).map_or(&[][..], |(_, data)| data);
                random.change(&mut data, other);
            }
            if let Some(why) = broken(target, &data) {
                let path = std::env::temp_dir().join(format!("s2s-fuzz-{}-{run}", target.name));
                fs::write(&path, &data).expect("there is a place for temporary files");
                panic!("{}, changed input {run}, kept as {}: {why}", target.name, path.display());
            }
        }
    }
}

#[test]
fn every_target_has_a_fuzzer_and_kept_inputs() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    for target in TARGETS {
        let fuzzer =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/fuzz_targets/{}.rs", target.name));
        let source =
            fs::read_to_string(&fuzzer).unwrap_or_else(|error| panic!("{}: {error}", fuzzer.display()));
        assert!(source.contains(&format!("{:?}", target.name)), "{} calls another target", fuzzer.display());
        assert!(
            manifest.contains(&format!("name = {:?}\n", target.name)),
            "fuzz/Cargo.toml has no binary {}",
            target.name
        );
        assert!(
            !files(&folder("corpus", target)).is_empty(),
            "there is no input for {} in fuzz/corpus",
            target.name
        );
    }
}
