//! Unknown source symbols in the output: `unknown: copy` and `replace_unknowns`.

use std::borrow::Cow;

use super::source_text::SourceText;
use crate::decoding::{Hypothesis, Settings, UnknownPolicy};
use crate::vocabulary::{Characters, REPLACEMENT, Tokeniser, Unwritten};

/// The pieces of a hypothesis, and which source symbols stand among them.
pub(super) struct Pieces<'a> {
    /// One for each of the hypothesis's ids.
    pub(super) pieces: Vec<Cow<'a, str>>,
    source: &'a SourceText,
    /// The source's id of an unknown symbol.
    unk: u32,
    /// Whether the symbol of a source position is in the output.
    copied: Vec<bool>,
    separators: [&'a str; 2],
}

/// The text of each id; a character that several ids make up is the last one's, and so is a space that was not
/// certain before.
fn pieces<'a>(target: &'a dyn Tokeniser, ids: &[u32]) -> Vec<Cow<'a, str>> {
    if target.separator().is_empty() {
        let mut rest = Unwritten::default();
        let mut pieces: Vec<String> = ids
            .iter()
            .map(|&id| {
                let mut piece = String::new();
                target.write(id, &mut rest, &mut piece);
                piece
            })
            .collect();
        if let Some(last) = pieces.last_mut() {
            target.finish(&mut rest, last);
        }
        return pieces.into_iter().map(Cow::Owned).collect();
    }
    let mut characters = Characters::default();
    let piece = |(at, &id): (usize, &u32)| characters.push(target.piece(id, at == 0));
    let mut pieces: Vec<_> = ids.iter().enumerate().map(piece).collect();
    let rest = characters.finish();
    if let Some(last) = pieces.last_mut().filter(|_| !rest.is_empty()) {
        last.to_mut().push_str(rest);
    }
    pieces
}

impl<'a> Pieces<'a> {
    /// The symbols of a hypothesis, with UNK replaced by source symbols: by the one that is most attended
    /// there, without attention by the first unknown symbol for the first UNK, and so on.
    pub(super) fn new(
        [inner, outer]: [&'a dyn Tokeniser; 2],
        source: &'a SourceText,
        hypothesis: &Hypothesis,
        settings: &Settings,
    ) -> Self {
        let mut all = Self {
            pieces: pieces(outer, &hypothesis.ids),
            source,
            unk: inner.special_ids().unk,
            copied: vec![false; source.ids.len()],
            separators: [inner.separator(), outer.separator()],
        };
        let unk = outer.special_ids().unk;
        let copies = settings.unknown == UnknownPolicy::Copy;
        if copies || settings.replace_unknowns {
            for (step, _) in hypothesis.ids.iter().enumerate().filter(|(_, id)| **id == unk) {
                let at = match hypothesis.attention.get(step) {
                    Some(weights) => all.most_attended(weights, settings.replace_unknowns),
                    None => copies.then(|| all.unknown().find(|&at| !all.copied[at])).flatten(),
                };
                all.pieces[step] = Cow::Borrowed(at.map_or(REPLACEMENT, |at| &source.symbols[at]));
                if let Some(at) = at {
                    all.copied[at] = true;
                }
            }
        }
        all
    }

    fn is_unknown(&self, at: usize) -> bool {
        self.source.ids.get(at) == Some(&self.unk)
    }

    fn unknown(&self) -> impl Iterator<Item = usize> {
        self.source.text.clone().filter(|&at| self.is_unknown(at))
    }

    /// The source position with the largest weight, among all or the unknown ones; the first of several.
    fn most_attended(&self, weights: &[f32], among_all: bool) -> Option<usize> {
        let candidates =
            (0..weights.len().min(self.source.ids.len())).filter(|&at| among_all || self.is_unknown(at));
        candidates.max_by(|&a, &b| weights[a].total_cmp(&weights[b]).then(b.cmp(&a)))
    }

    /// Puts the unknown symbols that are not in the output yet into it, each once, and gives the text.
    ///
    /// A model that met no UNK in training hardly ever says UNK: it says something else where it reads an
    /// unknown symbol. With attention, the symbol takes the place of the piece that was said while it was
    /// attended most. Where there is no such piece, and without attention, it is put between two pieces, so
    /// that nothing is lost: beside the piece that attended it most, else as far into the output as it stands
    /// in the source, at an end if it stands at one; unknown neighbours stay together. Of a text without any
    /// known symbol, the model says nothing: it is copied.
    ///
    /// - `steps`: the pieces that were generated and are kept.
    /// - `attention`: f32 (target tokens, source tokens), or empty.
    pub(super) fn copy_rest(&mut self, steps: std::ops::Range<usize>, attention: &[Vec<f32>]) -> String {
        let (end, source) = (steps.end, self.source);
        let [inner, outer] = self.separators;
        let join = |positions: std::ops::Range<usize>| source.symbols.join(positions, inner);
        if self.unknown().count() == self.source.text.len() && !self.copied.contains(&true) {
            let copy = join(self.source.text.clone());
            let before = self.pieces[..steps.start].join(outer);
            for (place, piece) in self.pieces[steps].iter_mut().enumerate() {
                *piece = if place == 0 { Cow::Owned(copy.clone()) } else { Cow::Borrowed("") };
            }
            return if before.is_empty() { copy } else { format!("{before}{outer}{copy}") };
        }
        let mut taken = vec![false; end];
        for at in self.unknown().collect::<Vec<_>>() {
            let reads = |&step: &usize| {
                !taken[step] && attention.get(step).and_then(|w| self.most_attended(w, true)) == Some(at)
            };
            let weight = |step: usize| attention[step][at];
            let step =
                steps.clone().filter(reads).max_by(|&a, &b| weight(a).total_cmp(&weight(b)).then(b.cmp(&a)));
            if let Some(step) = step.filter(|_| !self.copied[at]) {
                self.pieces[step] = Cow::Borrowed(&source.symbols[at]);
                (taken[step], self.copied[at]) = (true, true);
            }
        }
        // What comes before each of the kept pieces, and after the last.
        let mut between = vec![Vec::new(); steps.len() + 1];
        let mut at = self.source.text.start;
        while at < self.source.text.end {
            let length =
                (at..self.source.text.end).take_while(|&at| self.is_unknown(at) && !self.copied[at]).count();
            if length > 0 {
                let run = at..at + length;
                between[self.place(&run, &steps, attention)].push(join(run.clone()));
            }
            at += length.max(1);
        }
        let mut last = between.pop().unwrap_or_default();
        for (step, mut symbols) in steps.clone().zip(between) {
            let is_last = step + 1 == end;
            let after = if is_last { std::mem::take(&mut last) } else { Vec::new() };
            if !symbols.is_empty() || !after.is_empty() {
                symbols.push(std::mem::take(&mut self.pieces[step]).into_owned());
                symbols.extend(after);
                self.pieces[step] = Cow::Owned(symbols.join(outer));
            }
        }
        let kept = self.pieces[..end].iter().map(|piece| &**piece).chain(last.iter().map(String::as_str));
        kept.collect::<Vec<_>>().join(outer)
    }

    /// Between which of the kept pieces a run of unknown symbols belongs: before the first (0) to after the
    /// last.
    fn place(
        &self,
        run: &std::ops::Range<usize>,
        steps: &std::ops::Range<usize>,
        attention: &[Vec<f32>],
    ) -> usize {
        let weight = |step: usize| attention.get(step).and_then(|weights| weights.get(run.start)).copied();
        let attending = steps.clone().filter(|&step| weight(step).is_some());
        match attending
            .max_by(|&a, &b| weight(a).unwrap_or(0.0).total_cmp(&weight(b).unwrap_or(0.0)).then(b.cmp(&a)))
        {
            Some(step) => {
                let reads_earlier =
                    self.most_attended(&attention[step], true).is_some_and(|other| other < run.start);
                step - steps.start + usize::from(reads_earlier)
            }
            None if run.end == self.source.text.end && run.start > self.source.text.start => steps.len(),
            // Rounded to the nearest.
            None => {
                ((run.start - self.source.text.start) * steps.len() * 2 + self.source.text.len())
                    / (2 * self.source.text.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::contract::UNK;
    use crate::decoding::{DecodingOptions, FinishReason};
    use crate::translator::TextCoder;
    use crate::vocabulary::{Unit, Vocabulary};

    /// What becomes of `text` if the model, which knows a to f, says these symbols of P, Q, R (`?` is UNK).
    fn copied(unit: Unit, text: &str, said: &str, attention: &[&[f32]]) -> String {
        let [source, target] = [(unit, "a b c d e f"), (unit, "P Q R")].map(|(unit, symbols)| {
            let symbols = if unit == Unit::Token { symbols.to_owned() } else { symbols.replace(' ', "") };
            Vocabulary::build(unit, [], [symbols])
        });
        let ids = said.chars().map(|c| target.id(&c.to_string()).unwrap_or(UNK)).collect();
        let coder = TextCoder::from_parts(
            Arc::new(source),
            Arc::new(target),
            DecodingOptions::default(),
            !attention.is_empty(),
        );
        let options = DecodingOptions { unknown: Some(UnknownPolicy::Copy), ..DecodingOptions::default() };
        let settings = coder.settings(&options).unwrap();
        let attention = attention.iter().map(|weights| weights.to_vec()).collect();
        let (token_scores, finish) = (Vec::new(), FinishReason::Eos);
        let hypothesis = Hypothesis { ids, prefix: 0, score: 0.0, token_scores, attention, finish };
        let source = coder.encode(text, &settings).unwrap();
        coder.translation(&source, vec![hypothesis], &settings).text.clone()
    }

    #[test]
    fn without_attention_unknown_symbols_stand_as_far_into_the_output_as_into_the_source() {
        for (text, said, expected) in [
            ("abc", "PQR", "PQR"),
            ("axb", "PQR", "PxQR"),
            ("xab", "PQR", "xPQR"),
            ("abx", "PQR", "PQRx"),
            ("axyb", "PQR", "PxyQR"),
            ("xaby", "PQR", "xPQRy"),
            ("axbcdyef", "PQRP", "PxQRyP"),
            ("axb", "", "x"),
            // What the model says of symbols that it does not know is nothing.
            ("xyz", "PQR", "xyz"),
            ("xyz", "", "xyz"),
        ] {
            assert_eq!(copied(Unit::Character, text, said, &[]), expected, "{text} {said}");
        }
        assert_eq!(copied(Unit::Token, "a xx yy b", "PQ", &[]), "P xx yy Q");
    }

    #[test]
    fn a_model_that_says_unk_gets_the_symbols_in_their_order_and_the_rest_is_put_where_it_stood() {
        assert_eq!(copied(Unit::Character, "axb", "P?R", &[]), "PxR");
        assert_eq!(copied(Unit::Character, "axby", "P?R", &[]), "PxRy");
        assert_eq!(copied(Unit::Character, "axby", "?", &[]), "xy");
    }

    #[test]
    fn with_attention_a_symbol_takes_the_place_of_what_was_said_while_it_was_read() {
        let [first, second, third] = [&[0.8, 0.1, 0.1][..], &[0.1, 0.8, 0.1], &[0.1, 0.1, 0.8]];
        assert_eq!(copied(Unit::Character, "axb", "PQR", &[first, second, third]), "PxR");
        assert_eq!(copied(Unit::Character, "axb", "PQR", &[third, first, second]), "PQx");
        assert_eq!(copied(Unit::Token, "a x b", "PQR", &[second, first, third]), "x Q R");
        // Of two pieces that read it, the one that read it more.
        assert_eq!(copied(Unit::Character, "axb", "PQR", &[&[0.3, 0.4, 0.3], second, third]), "PxR");
        // Which nothing read most is put beside the piece that read it more than others did.
        assert_eq!(copied(Unit::Character, "axb", "PQR", &[first, &[0.6, 0.4, 0.0], third]), "PQxR");
        assert_eq!(copied(Unit::Character, "axb", "PQR", &[first, &[0.0, 0.4, 0.6], third]), "PxQR");
    }
}
