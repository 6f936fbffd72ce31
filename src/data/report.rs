//! What there is to say about a file of pairs before it is trained on.

use std::collections::HashSet;
use std::fmt;

use s2s_runtime::contract::SPECIAL_SYMBOLS;
use s2s_runtime::vocabulary::{Normalisation, Unit, Vocabulary};
use serde::Serialize;
use unicode_normalization::{is_nfc, is_nfd};

use super::Progress;
use super::counting::normaliser;
use super::groups::{by_source, hash, runs};
use super::lengths::LONGEST_TEXT;
use super::pairs::{Met, Pairs, Part};
use crate::config::checked::{Data, Side};

/// What a file holds, and what may be wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataReport {
    /// Name of the file, without its folder.
    pub file: String,
    /// Pairs that are used.
    pub pairs: usize,
    /// How long the sources are.
    pub source: Lengths,
    /// How long the targets are.
    pub target: Lengths,
    /// What may be wrong.
    pub findings: Vec<Finding>,
}

/// Lengths of the texts of one side, in tokens after normalisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// What a token is.
    pub unit: Unit,
    /// Half of the texts are no longer.
    pub median: usize,
    /// Tokens of the longest text.
    pub longest: usize,
    /// Its line, 1-based.
    pub line: u64,
}

/// Something that may be wrong, or should be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What, in a word or two.
    pub what: &'static str,
    /// How often it comes.
    pub count: usize,
    /// The first line of it, 1-based.
    pub line: u64,
    /// The finding in words, with the line.
    pub said: String,
    /// What to do.
    pub help: String,
}

/// What is found in the texts of one side.
struct Texts<'a> {
    side: &'a Side,
    name: &'static str,
    normaliser: Vocabulary,
    /// Texts of each length; the last place is for all that are longer than can be trained on.
    lengths: Vec<u32>,
    longest: (usize, u64),
    composed: Met,
    decomposed: Met,
    marks: Met,
    zeros: Met,
    controls: Met,
    /// The first control character.
    control: char,
    special: Met,
    /// The first word that is spelled like a special symbol.
    word: &'static str,
    quoted: Met,
}

impl<'a> Texts<'a> {
    fn new(name: &'static str, side: &'a Side) -> Self {
        let none = Met::default();
        Self {
            side,
            name,
            normaliser: normaliser(side),
            lengths: vec![0; LONGEST_TEXT + 2],
            longest: (0, 0),
            composed: none,
            decomposed: none,
            marks: none,
            zeros: none,
            controls: none,
            control: '\0',
            special: none,
            word: "",
            quoted: none,
        }
    }

    fn look(&mut self, text: &str, line: u64) {
        let normalised = self.normaliser.normalised(text);
        let length = match self.side.unit {
            Unit::Character => normalised.chars().count(),
            Unit::Token => normalised.split_whitespace().count(),
        };
        self.lengths[length.min(LONGEST_TEXT + 1)] += 1;
        if length > self.longest.0 {
            self.longest = (length, line);
        }
        if self.side.unit == Unit::Token && text.contains('<') {
            let found = normalised
                .split_whitespace()
                .find_map(|word| SPECIAL_SYMBOLS.into_iter().find(|symbol| *symbol == word));
            if let Some(word) = found {
                self.word = if self.special.count == 0 { word } else { self.word };
                self.special.meet(line);
            }
        }
        if text.len() > 1 && text.starts_with('"') && text.ends_with('"') {
            self.quoted.meet(line);
        }
        if text.bytes().all(|b| (b' '..0x7f).contains(&b)) {
            return;
        }
        if text.contains('\0') {
            self.zeros.meet(line);
        }
        if let Some(control) =
            text.chars().find(|&c| c != '\0' && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')))
        {
            self.control = if self.controls.count == 0 { control } else { self.control };
            self.controls.meet(line);
        }
        if text.is_ascii() {
            return;
        }
        if text.contains('\u{feff}') {
            self.marks.meet(line);
        }
        if !is_nfc(text) {
            self.decomposed.meet(line);
        }
        if !is_nfd(text) {
            self.composed.meet(line);
        }
    }

    fn lengths(&self, count: usize) -> Lengths {
        let mut seen = 0;
        let at = |&texts: &u32| {
            seen += texts as usize;
            seen * 2 >= count
        };
        let median = self.lengths.iter().position(at).unwrap_or_default();
        Lengths { unit: self.side.unit, median, longest: self.longest.0, line: self.longest.1 }
    }

    fn findings(&self, pairs: usize, add: &mut impl FnMut(&'static str, Met, String, &str)) {
        let name = self.name;
        use Normalisation::{Nfc, Nfd, Nfkc, Nfkd};
        let is_one_form = self.side.normalisation.iter().any(|step| matches!(step, Nfc | Nfd | Nfkc | Nfkd));
        let is_mixed = self.composed.count > 0 && self.decomposed.count > 0;
        // Those who ask write NFC: sources in another form are answered as unknown symbols. Targets may have
        // either, but one.
        if !is_one_form && (is_mixed || name == "source" && self.decomposed.count > 0) {
            let said = match is_mixed {
                true => format!("{name}s in two Unicode forms: {} not in NFC", self.decomposed.count),
                false => format!("{name}s change under NFC: {}", self.decomposed.count),
            };
            let help = format!("one letter, two spellings: add `normalisation: [nfc]` to `data.{name}`");
            add("normalisation", self.decomposed, said, &help);
        }
        let texts = |met: Met, what: &str| format!("{what} in {}", counted(met.count, name));
        let out = "take them out, unless they are meant: they become symbols of their own";
        add(
            "byte-order marks",
            self.marks,
            texts(self.marks, "U+FEFF"),
            "files were joined; take them out: sed 's/\\xEF\\xBB\\xBF//g' FILE > NEW",
        );
        add("NUL", self.zeros, texts(self.zeros, "U+0000"), "take them out: tr -d '\\000' < FILE > NEW");
        add(
            "control characters",
            self.controls,
            texts(self.controls, &format!("U+{:04X}", self.control as u32)),
            out,
        );
        let special = "they stay ordinary words and end nothing";
        add("special words", self.special, texts(self.special, &format!("`{}`", self.word)), special);
        if self.quoted.count * 2 > pairs {
            let help = "they are text here; `format: csv` takes them off (with `separator`)";
            add("quotes", self.quoted, texts(self.quoted, "quotes around the text"), help);
        }
    }
}

impl DataReport {
    /// Looks at the pairs of a file.
    pub fn new(file: &str, pairs: &std::sync::Arc<Pairs>, data: &Data, progress: &mut Progress<'_>) -> Self {
        let [mut source, mut target] =
            [Texts::new("source", &data.source), Texts::new("target", &data.target)];
        for (i, (from, to)) in pairs.iter().enumerate() {
            let line = pairs.line(i);
            source.look(from, line);
            target.look(to, line);
            if i.is_multiple_of(1 << 14) {
                progress("looking at", i, pairs.len());
            }
        }
        let mut findings: Vec<Finding> = Vec::new();
        let mut add = |what: &'static str, met: Met, said: String, help: &str| {
            if met.count > 0 {
                let said = format!("{said}, first in line {}", met.line);
                findings.push(Finding {
                    what,
                    count: met.count,
                    line: met.line,
                    said,
                    help: help.to_owned(),
                });
            }
        };
        let lines = |met: Met, what: &str| format!("{} {what}", counted(met.count, "line"));
        let (empty, returns) = (pairs.empty, pairs.returns);
        add(
            "empty sides",
            empty,
            lines(empty, "left out: no source or no target"),
            "`empty: error` in `data` stops there instead",
        );
        add("line ends", returns, lines(returns, "ended by CR alone"), "read as lines; nothing to do");
        let [again, others] = repeated(pairs, &source.normaliser, &target.normaliser);
        let said = format!(
            "{} there again",
            if again.count == 1 {
                "1 pair stands".to_owned()
            } else {
                format!("{} pairs stand", again.count)
            }
        );
        add("duplicates", again, said, "they count more in training; take them out if that is not meant");
        let said = format!("{} with more than one target", counted(others.count, "source"));
        add(
            "conflicting targets",
            others,
            said,
            "one answer is learnt for each; `s2s eval` takes any of them for right",
        );
        source.findings(pairs.len(), &mut add);
        target.findings(pairs.len(), &mut add);
        let (source, target) = (source.lengths(pairs.len()), target.lengths(pairs.len()));
        Self { file: file.to_owned(), pairs: pairs.len(), source, target, findings }
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Pairs that stand there again, and sources that have further targets, as they are after normalisation.
fn repeated(pairs: &std::sync::Arc<Pairs>, source: &Vocabulary, target: &Vocabulary) -> [Met; 2] {
    let part = Part::whole(std::sync::Arc::clone(pairs));
    let keys = by_source(&part, source);
    let [mut again, mut others] = [Met::default(), Met::default()];
    let first = |met: &mut Met, count: usize, line: u64| {
        let is_first = count > 0 && (met.count == 0 || line < met.line);
        *met = Met { count: met.count + count, line: if is_first { line } else { met.line } };
    };
    for run in runs(&keys).filter(|run| run.len() > 1) {
        let mut seen = HashSet::new();
        let (mut repeats, mut repeat, mut other) = (0, 0, 0);
        for key in run {
            let position = key[2] as usize;
            let line = pairs.line(position);
            if seen.insert(hash(&target.normalised(pairs.get(position).1))) {
                other = if seen.len() == 2 { line } else { other };
            } else {
                repeat = if repeats == 0 { line } else { repeat };
                repeats += 1;
            }
        }
        first(&mut again, repeats, repeat);
        first(&mut others, usize::from(seen.len() > 1), other);
    }
    [again, others]
}

impl fmt::Display for DataReport {
    /// A few lines: a head, lengths, and two lines a finding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, counted(self.pairs, "pair"))?;
        for (name, lengths) in [("source", &self.source), ("target", &self.target)] {
            let unit = match lengths.unit {
                Unit::Character => "character",
                Unit::Token => "token",
            };
            let Lengths { median, longest, line, .. } = lengths;
            write!(f, "\n  {name:20} median {median}, longest {} (line {line})", counted(*longest, unit))?;
        }
        for Finding { what, said, help, .. } in &self.findings {
            write!(f, "\n  {what:20} {said}\n      {help}")?;
        }
        Ok(())
    }
}
