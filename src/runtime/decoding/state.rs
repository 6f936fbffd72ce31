//! The decoder state of all running rows: rows join, leave, and change places.

use crate::engine::{DecoderState, StateTensor};
use crate::error::{Error, ErrorKind, Result};

/// The state of the running batch; memory tensors are left-padded with zeros to one `time`.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) state: DecoderState,
    /// Source columns of the memory tensors.
    pub(super) time: usize,
    scratch: Vec<f32>,
}

impl Running {
    /// Appends rows that were just encoded from `columns` source columns.
    pub(super) fn join(&mut self, mut fresh: DecoderState, columns: usize) -> Result<()> {
        if self.state.batch == 0 {
            self.state = fresh;
            self.time = columns;
            return Ok(());
        }
        let tensors = |state: &DecoderState| (state.recurrent.len(), state.memory.len());
        let time = self.time.max(columns);
        if tensors(&self.state) != tensors(&fresh) {
            return Err(Error::new(
                ErrorKind::Engine,
                "the encoder gave another number of states than before",
            ));
        }
        for memory in &mut self.state.memory {
            stretch(memory, self.time, time);
        }
        for memory in &mut fresh.memory {
            stretch(memory, columns, time);
        }
        self.time = time;
        let fresh_tensors = || fresh.recurrent.iter().chain(&fresh.memory);
        for (old, new) in self.state.recurrent.iter().chain(&self.state.memory).zip(fresh_tensors()) {
            if old.row_shape != new.row_shape {
                let problem = format!(
                    "the encoder gave a state of shape {:?} after one of shape {:?}",
                    new.row_shape, old.row_shape
                );
                return Err(Error::new(ErrorKind::Engine, problem));
            }
        }
        for (old, new) in self.state.recurrent.iter_mut().chain(&mut self.state.memory).zip(fresh_tensors()) {
            old.data.extend_from_slice(&new.data);
        }
        self.state.batch += fresh.batch;
        Ok(())
    }

    /// Keeps `rows` in that order, any row any number of times.
    ///
    /// - `memory_stays`: every row keeps its place or takes that of a row of the same source.
    pub(super) fn keep(&mut self, rows: &[usize], memory_stays: bool) {
        if rows.len() == self.state.batch && rows.iter().enumerate().all(|(to, &from)| to == from) {
            return;
        }
        let within = rows.iter().enumerate().all(|(to, &from)| to <= from);
        let memory = if memory_stays { &mut [][..] } else { &mut self.state.memory[..] };
        for tensor in self.state.recurrent.iter_mut().chain(memory) {
            let len = tensor.row_len();
            if within {
                for (to, &from) in rows.iter().enumerate().filter(|(to, from)| to != *from) {
                    tensor.data.copy_within(from * len..(from + 1) * len, to * len);
                }
                tensor.data.truncate(rows.len() * len);
            } else {
                self.scratch.clear();
                for &from in rows {
                    self.scratch.extend_from_slice(&tensor.data[from * len..(from + 1) * len]);
                }
                std::mem::swap(&mut tensor.data, &mut self.scratch);
            }
        }
        self.state.batch = rows.len();
    }

    /// Drops leading columns that are padding in every row, once they are a quarter of the memory.
    ///
    /// - `longest`: the longest source of the running rows.
    pub(super) fn trim(&mut self, longest: usize) {
        let longest = longest.max(1);
        if self.state.memory.is_empty() || longest * 4 > self.time * 3 {
            return;
        }
        let time = self.time;
        for memory in &mut self.state.memory {
            if memory.row_shape.first() == Some(&time) {
                let width = memory.row_len() / time;
                let (old, new) = (time * width, longest * width);
                for row in 0..self.state.batch {
                    memory.data.copy_within((row + 1) * old - new..(row + 1) * old, row * new);
                }
                memory.data.truncate(self.state.batch * new);
                memory.row_shape[0] = longest;
            }
        }
        self.time = longest;
    }
}

/// Left-pads a memory tensor, f32 (batch, source_time, ...), from `from` to `to` columns; one without a time
/// axis stays.
fn stretch(memory: &mut StateTensor, from: usize, to: usize) {
    if from == to || memory.row_shape.first() != Some(&from) {
        return;
    }
    let len = memory.row_len();
    let padding = len / from * (to - from);
    let mut data = Vec::with_capacity(memory.data.len() / len.max(1) * (len + padding));
    for row in memory.data.chunks_exact(len) {
        data.resize(data.len() + padding, 0.0);
        data.extend_from_slice(row);
    }
    memory.data = data;
    memory.row_shape[0] = to;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(rows: &[&[f32]]) -> DecoderState {
        let tensor = |inner: usize| StateTensor {
            row_shape: if inner == 1 { vec![rows[0].len()] } else { vec![rows[0].len(), inner] },
            data: rows.iter().flat_map(|r| r.iter().flat_map(|&x| vec![x; inner])).collect(),
        };
        let recurrent =
            StateTensor { row_shape: vec![1], data: rows.iter().map(|r| r[r.len() - 1]).collect() };
        DecoderState { batch: rows.len(), recurrent: vec![recurrent], memory: vec![tensor(2), tensor(1)] }
    }

    #[test]
    fn rows_that_join_are_left_padded_and_rows_that_leave_take_their_padding_with_them() -> Result<()> {
        let mut running = Running::default();
        running.join(state(&[&[1.0, 2.0]]), 2)?;
        running.join(state(&[&[3.0, 4.0, 5.0, 6.0]]), 4)?;
        assert_eq!(running.state, state(&[&[0.0, 0.0, 1.0, 2.0], &[3.0, 4.0, 5.0, 6.0]]));
        running.join(state(&[&[7.0]]), 1)?;
        running.keep(&[2, 0, 0], false);
        assert_eq!(
            running.state,
            state(&[&[0.0, 0.0, 0.0, 7.0], &[0.0, 0.0, 1.0, 2.0], &[0.0, 0.0, 1.0, 2.0]])
        );
        running.trim(2);
        assert_eq!(running.state, state(&[&[0.0, 7.0], &[1.0, 2.0], &[1.0, 2.0]]));
        running.keep(&[1], false);
        assert_eq!(running.state, state(&[&[1.0, 2.0]]));
        Ok(())
    }

    #[test]
    fn a_state_of_another_shape_is_an_error() -> Result<()> {
        let mut running = Running::default();
        running.join(
            DecoderState {
                batch: 1,
                recurrent: vec![StateTensor { row_shape: vec![2], data: vec![0.0; 2] }],
                memory: vec![],
            },
            1,
        )?;
        let other = DecoderState {
            batch: 1,
            recurrent: vec![StateTensor { row_shape: vec![3], data: vec![0.0; 3] }],
            memory: vec![],
        };
        assert!(running.join(other, 1).is_err());
        Ok(())
    }
}
