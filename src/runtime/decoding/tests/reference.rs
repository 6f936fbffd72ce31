//! Decoding as a textbook writes it: f64, one row, the whole history run again at every step, full sorts.

use super::*;
use crate::contract::SpecialIds;
use crate::decoding::tests::scripted::Scripted;
use crate::engine::{Engine, IdMatrix, StepOutput};

/// A hypothesis of the reference.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) ids: Vec<u32>,
    pub(super) ended: bool,
    pub(super) sum: f64,
    pub(super) score: f64,
}

pub(super) struct Reference<'a> {
    pub(super) engine: &'a mut Scripted,
    pub(super) source: &'a [u32],
    pub(super) options: &'a DecodingOptions,
    /// Some comparison was so close that f32 may decide it the other way.
    pub(super) close: bool,
}

impl Reference<'_> {
    /// Logits after `ids`, and the attention weights of every step.
    fn run(&mut self, ids: &[u32]) -> (Vec<f64>, Vec<Vec<f64>>) {
        let data: Vec<i64> = if self.source.is_empty() {
            vec![i64::from(self.engine.ids.pad)]
        } else {
            self.source.iter().map(|&id| i64::from(id)).collect()
        };
        let encoded = self.engine.encode(&IdMatrix { rows: 1, columns: data.len(), data }).unwrap();
        self.engine.clear();
        self.engine.join(&encoded, 0..1).unwrap();
        let mut output = StepOutput::default();
        let mut attention = Vec::new();
        for token in std::iter::once(&self.engine.ids.start.clone()).chain(ids) {
            self.engine.step(&[i64::from(*token)], &mut output).unwrap();
            let weights = if self.source.is_empty() { &[][..] } else { &output.attention[..] };
            attention.push(weights.iter().map(|&w| f64::from(w)).collect());
        }
        (output.logits.iter().map(|&x| f64::from(x)).collect(), attention)
    }

    /// log p of every token after `ids`, by the rules of every decode.
    #[allow(clippy::needless_range_loop)]
    pub(super) fn log_p(&mut self, ids: &[u32]) -> Vec<f64> {
        let o = self.options;
        let SpecialIds { pad, start, end, unk: unknown } = self.engine.ids;
        let mut logits = self.run(ids).0;
        let n = o.no_repeat_ngram_size.unwrap_or(0);
        let penalty = f64::from(o.repetition_penalty.unwrap_or(1.0));
        for id in 0..logits.len() {
            let token = u32::try_from(id).unwrap();
            if ids.contains(&token) {
                logits[id] = if logits[id] > 0.0 { logits[id] / penalty } else { logits[id] * penalty };
            }
            let mut whole = ids.to_vec();
            whole.push(token);
            let repeats = n > 0
                && whole.len() > n
                && (0..whole.len() - n).any(|at| whole[at..at + n] == whole[whole.len() - n..]);
            let too_early = token == end && ids.len() < o.min_new_tokens.unwrap_or(0);
            let suppressed = o.suppress_tokens.iter().flatten().any(|s| *s == SymbolRef::Id(token));
            let unk = token == unknown && o.disable_unk == Some(true);
            if repeats || too_early || suppressed || unk || token == pad || token == start {
                logits[id] = f64::NEG_INFINITY;
            }
        }
        let total: f64 = logits.iter().map(|x| x.exp()).sum();
        logits.iter().map(|x| if total > 0.0 { x - total.ln() } else { f64::NEG_INFINITY }).collect()
    }

    fn finished(&mut self, ids: &[u32], ended: bool, sum: f64) -> Plain {
        let o = self.options;
        let n = (ids.len() + usize::from(ended)).max(1) as f64;
        let a = f64::from(o.length_penalty.unwrap_or(1.0));
        let b = f64::from(o.coverage_penalty.unwrap_or(0.0));
        let mut score = sum / self.divisor(n, a);
        if b > 0.0 {
            // The weights of the step that gave each token: START and all but the last, the last too if END
            // came.
            let steps = ids.len() + usize::from(ended);
            let attention = self.run(ids).1;
            for column in 0..self.source.len() {
                let covered: f64 = attention[..steps].iter().map(|weights| weights[column]).sum();
                score += b * covered.min(1.0).ln();
            }
        }
        Plain { ids: ids.to_vec(), ended, sum, score }
    }

    fn divisor(&self, n: f64, a: f64) -> f64 {
        match self.options.length_penalty_type.unwrap_or_default() {
            LengthPenaltyType::Avg => n.powf(a),
            LengthPenaltyType::Gnmt => ((5.0 + n) / 6.0).powf(a),
            LengthPenaltyType::None => 1.0,
        }
    }

    pub(super) fn greedy(&mut self) -> Plain {
        let (mut ids, mut sum) = (Vec::new(), 0.0);
        while ids.len() < self.options.max_new_tokens.unwrap() {
            let log_p = self.log_p(&ids);
            let better = |best, id| if log_p[id as usize] > log_p[best as usize] { id } else { best };
            let best = (0..u32::try_from(log_p.len()).unwrap()).reduce(better).unwrap();
            if log_p[best as usize] == f64::NEG_INFINITY {
                return self.finished(&ids, false, sum);
            }
            sum += log_p[best as usize];
            if best == self.engine.ids.end {
                return self.finished(&ids, true, sum);
            }
            ids.push(best);
        }
        self.finished(&ids, false, sum)
    }

    /// Every sequence that the rules allow, the best score first.
    pub(super) fn exhaustive(&mut self) -> Vec<Plain> {
        let mut all = Vec::new();
        let mut open = vec![(Vec::new(), 0.0)];
        while let Some((ids, sum)) = open.pop() {
            if ids.len() == self.options.max_new_tokens.unwrap() {
                all.push(self.finished(&ids, false, sum));
                continue;
            }
            let log_p = self.log_p(&ids);
            for (id, log_p) in (0u32..).zip(log_p).filter(|(_, log_p)| *log_p > f64::NEG_INFINITY) {
                if id == self.engine.ids.end {
                    all.push(self.finished(&ids, true, sum + log_p));
                } else {
                    let mut longer = ids.clone();
                    longer.push(id);
                    open.push((longer, sum + log_p));
                }
            }
        }
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.notice(all.iter().map(|h| h.score));
        all
    }

    fn notice(&mut self, sorted: impl Iterator<Item = f64>) {
        let sorted: Vec<f64> = sorted.collect();
        self.close |= sorted.windows(2).any(|pair| pair[0] - pair[1] < 1e-4);
    }

    /// Beam search with 2B candidates a step.
    pub(super) fn beams(&mut self) -> Vec<Plain> {
        let end = self.engine.ids.end;
        let o = self.options.clone();
        let (beams, most) = (o.num_beams.unwrap(), o.max_new_tokens.unwrap());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let enough = ((beams as f32 * o.patience.unwrap_or(1.0)).round() as usize).max(1);
        let a = f64::from(o.length_penalty.unwrap_or(1.0));
        let mut running: Vec<(Vec<u32>, f64)> = vec![(Vec::new(), 0.0)];
        let mut done: Vec<Plain> = Vec::new();
        for n in 1.. {
            let mut candidates = Vec::new();
            for (ids, sum) in &running {
                for (id, log_p) in
                    (0u32..).zip(self.log_p(ids)).filter(|(_, log_p)| *log_p > f64::NEG_INFINITY)
                {
                    let mut longer = ids.clone();
                    longer.push(id);
                    candidates.push((longer, sum + log_p));
                }
            }
            if candidates.is_empty() {
                for (ids, sum) in running {
                    done.push(self.finished(&ids, false, sum));
                }
                done.sort_by(|a, b| b.score.total_cmp(&a.score));
                done.truncate(enough);
                break;
            }
            candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
            self.notice(candidates.iter().map(|c| c.1));
            candidates.truncate(2 * beams);
            let ended = candidates.iter().take(beams).filter(|c| c.0.last() == Some(&end));
            let ended: Vec<(Vec<u32>, f64)> = ended.cloned().collect();
            for (ids, sum) in ended {
                let hypothesis = self.finished(&ids[..ids.len() - 1], true, sum);
                done.push(hypothesis);
            }
            running = candidates.into_iter().filter(|c| c.0.last() != Some(&end)).take(beams).collect();
            if n == most {
                for (ids, sum) in std::mem::take(&mut running) {
                    let hypothesis = self.finished(&ids, false, sum);
                    done.push(hypothesis);
                }
            }
            done.sort_by(|a, b| b.score.total_cmp(&a.score));
            self.notice(done.iter().map(|h| h.score));
            done.truncate(enough);
            let Some((_, best)) = running.first() else { break };
            if done.len() == enough {
                let worst = done[enough - 1].score;
                let length = match o.early_stopping.unwrap_or_default() {
                    EarlyStopping::True => break,
                    EarlyStopping::Never if a > 0.0 => most,
                    EarlyStopping::Never | EarlyStopping::False => n,
                };
                let attainable = best / self.divisor(length as f64, a);
                self.close |= (attainable - worst).abs() < 1e-4;
                if worst >= attainable {
                    break;
                }
            }
        }
        done.truncate(o.num_return_sequences.unwrap_or(1));
        done
    }
}
