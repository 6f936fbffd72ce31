//! The state of all running rows: rows join, leave and change places.
//!
//! All of that is only written down; the tensors are put together once, when a step needs them, and only
//! those whose rows are then not in place. Where beams of a text change places, what its encoder gave stays
//! as it is.

use std::ops::Range;
use std::sync::Arc;

use super::arrange::Arrangement;
use super::graph::{Graph, Job, Value};
use super::prefix::Prefixes;
use crate::error::{Error, ErrorKind, Result};
use crate::vocabulary::PaddingSide;

/// One tensor that is carried from step to step.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    /// For errors.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The axis of the rows.
    pub(super) batch: usize,
    /// Its time is not that of the source columns: rows are filled up to the longest.
    pub(super) own_time: bool,
}

/// What becomes of a carried tensor in a step. Axes are those of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is replaced by one of the same shape.
    Fixed,
    /// It is replaced by one that is longer by one.
    Growing { axis: usize },
    /// It stays.
    Memory {
        /// The axis that may have a place for each source column.
        time: Option<usize>,
    },
}

/// Tensors of some rows.
#[derive(Clone)]
pub(super) struct Part {
    /// Source columns, padding counted.
    pub(super) columns: usize,
    /// For each row, a number that no other source has.
    pub(super) sources: Vec<u64>,
    /// For each row, the columns that are no padding.
    pub(super) lengths: Vec<usize>,
    /// Steps that the tensors went through.
    pub(super) age: usize,
    pub(super) tensors: Vec<Value>,
    /// Which tensors have a place for each source column.
    pub(super) timed: Vec<bool>,
}

/// A running row.
#[derive(Clone, Copy, Debug)]
struct Row {
    source: u64,
    /// Its source columns without padding.
    length: usize,
    /// Steps that it made.
    age: usize,
    /// Part and row there of what steps renew.
    state: (usize, usize),
    /// The same of what stays.
    memory: (usize, usize),
}

/// The state of the running rows.
pub(super) struct State {
    carried: Arc<[Carried]>,
    /// Where sources are filled up.
    side: PaddingSide,
    rows: Vec<Row>,
    /// What the last step left, and what has joined since.
    parts: Vec<Part>,
    scratch: Vec<Row>,
    /// What the rows have said, for decoders that are fed all of it.
    pub(super) prefixes: Prefixes,
}

impl Part {
    /// The shape of a row of tensor `at`.
    pub(super) fn row_shape(&self, at: usize, batch: usize) -> Vec<usize> {
        let mut shape = self.tensors[at].shape().to_vec();
        if batch < shape.len() {
            shape.remove(batch);
        }
        shape
    }
}

impl State {
    pub(super) fn new(carried: Arc<[Carried]>, side: PaddingSide) -> Self {
        Self {
            carried,
            side,
            rows: Vec::new(),
            parts: Vec::new(),
            scratch: Vec::new(),
            prefixes: Prefixes::default(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether any row has made a step.
    pub(super) fn has_stepped(&self) -> bool {
        self.rows.iter().any(|row| row.age > 0)
    }

    /// For each row, the source columns that are no padding.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|row| row.length)
    }

    /// Source columns of what is in place.
    pub(super) fn columns(&self) -> usize {
        self.parts.first().map_or(0, |part| part.columns)
    }

    /// The tensors of what is in place.
    pub(super) fn values(&self) -> &[Value] {
        self.parts.first().map_or(&[], |part| &part.tensors)
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.parts.clear();
        self.prefixes.clear();
    }

    /// Lets rows of `fresh` come behind those that are there.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if their shapes differ from those that are there.
    pub(super) fn join(&mut self, fresh: &Part, rows: Range<usize>) -> Result<()> {
        if self.rows.is_empty() {
            self.parts.clear();
        }
        if let Some(first) = self.parts.first() {
            for (at, carried) in self.carried.iter().enumerate() {
                let [old, new] = [first, fresh].map(|part| {
                    let mut shape = part.row_shape(at, carried.batch);
                    let open = match carried.kind {
                        Kind::Fixed => None,
                        Kind::Growing { axis } => Some(axis),
                        Kind::Memory { time } => time.filter(|_| part.timed[at]),
                    };
                    open.and_then(|axis| shape.get_mut(axis)).into_iter().for_each(|length| *length = 0);
                    shape
                });
                if old != new {
                    let [old, new] = [first, fresh].map(|part| part.row_shape(at, carried.batch));
                    let problem =
                        format!("the encoder gave a state of shape {new:?} after one of shape {old:?}");
                    return Err(Error::new(ErrorKind::Engine, problem));
                }
            }
        }
        let part = self.parts.len();
        self.parts.push(fresh.clone());
        self.prefixes.join(rows.len());
        self.rows.extend(rows.map(|row| Row {
            source: fresh.sources[row],
            length: fresh.lengths[row],
            age: 0,
            state: (part, row),
            memory: (part, row),
        }));
        Ok(())
    }

    /// Keeps `rows` in that order, any row any number of times.
    pub(super) fn keep(&mut self, rows: &[usize]) {
        self.prefixes.keep(rows);
        self.scratch.clear();
        self.scratch.extend(rows.iter().map(|&row| self.rows[row]));
        std::mem::swap(&mut self.rows, &mut self.scratch);
        if self.rows.is_empty() {
            // A cohort that waits for its next rows holds no tensors.
            self.parts.clear();
        }
    }

    /// Puts the tensors together as the rows want them; says whether the source columns are others than
    /// before. Leading padding is dropped where rows are moved anyway, or once it is a quarter of the
    /// columns.
    pub(super) fn settle(&mut self, graph: &mut dyn Graph) -> Result<bool> {
        let Some(first) = self.parts.first() else { return Ok(false) };
        let one = self.parts.len() == 1 && self.rows.len() == first.sources.len();
        let in_place = |place: (usize, usize), at: usize| place == (0, at);
        let states_stay = one && self.rows.iter().enumerate().all(|(at, row)| in_place(row.state, at));
        let same_sources =
            one && self.rows.iter().zip(&first.sources).all(|(row, &source)| row.source == source);
        let longest = self.rows.iter().map(|row| row.length).max().unwrap_or(0).max(1);
        let timed = first.timed.contains(&true);
        let memory_stays = same_sources && !(timed && longest * 4 <= first.columns * 3);
        if states_stay && memory_stays {
            return Ok(false);
        }
        let columns = if memory_stays { first.columns } else { longest };
        let age = self.rows.iter().map(|row| row.age).max().unwrap_or(0);
        let [states, memory] = [|row: &Row| row.state, |row: &Row| row.memory]
            .map(|place| self.rows.iter().map(place).collect::<Vec<(usize, usize)>>());
        let mut row_shapes = Vec::with_capacity(self.carried.len());
        for (at, carried) in self.carried.iter().enumerate() {
            let mut row_shape = first.row_shape(at, carried.batch);
            let (stays, rows, along) = match carried.kind {
                Kind::Fixed => (states_stay, &states, None),
                Kind::Growing { axis } => {
                    // What each tensor has beyond the steps that it went through, it had from the beginning.
                    row_shape[axis] = (row_shape[axis] + age).saturating_sub(first.age);
                    (states_stay, &states, Some((axis, PaddingSide::Left)))
                }
                Kind::Memory { time } => {
                    let along = time.filter(|_| first.timed[at]).map(|axis| {
                        row_shape[axis] = if carried.own_time { self.longest(at, axis) } else { columns };
                        (axis, self.side)
                    });
                    (memory_stays, &memory, along)
                }
            };
            row_shapes.push((!stays).then_some((row_shape, rows, along)));
        }
        let mut jobs: Vec<Job<'_>> = Vec::new();
        for (at, (carried, moves)) in self.carried.iter().zip(&row_shapes).enumerate() {
            let Some((row_shape, rows, along)) = moves else { continue };
            let parts = self.parts.iter().map(|part| &part.tensors[at]).collect();
            let (from, to) = (carried.batch, carried.batch);
            jobs.push((parts, Arrangement { rows, row_shape, from, to, along: *along }));
        }
        let mut moved = graph.arrange_all(&jobs)?.into_iter();
        let mut tensors = Vec::with_capacity(self.carried.len());
        for (old, moves) in first.tensors.iter().zip(&row_shapes) {
            let next = if moves.is_some() { moved.next() } else { Some(Arc::clone(old)) };
            tensors.push(next.ok_or_else(|| Error::new(ErrorKind::Internal, "a state was lost"))?);
        }
        let settled = Part {
            columns,
            sources: self.rows.iter().map(|row| row.source).collect(),
            lengths: self.lengths().collect(),
            age,
            tensors,
            timed: first.timed.clone(),
        };
        self.parts.clear();
        self.parts.push(settled);
        for (at, row) in self.rows.iter_mut().enumerate() {
            (row.state, row.memory) = ((0, at), (0, at));
        }
        Ok(!memory_stays)
    }

    /// The longest that tensor `at` is along an axis of its rows, in the parts that are in use.
    fn longest(&self, at: usize, axis: usize) -> usize {
        let batch = self.carried[at].batch;
        let parts = self.rows.iter().map(|row| row.memory.0);
        parts
            .map(|part| self.parts[part].row_shape(at, batch).get(axis).copied().unwrap_or(0))
            .max()
            .unwrap_or(0)
    }

    /// What the step gave in place of what it read; what stays follows unchanged.
    pub(super) fn advance(&mut self, next: impl Iterator<Item = Value>) {
        if let Some(part) = self.parts.first_mut() {
            part.age += 1;
            part.tensors.iter_mut().zip(next).for_each(|(tensor, next)| *tensor = next);
        }
        self.rows.iter_mut().for_each(|row| row.age += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::arrange::{COPIED, host};
    use super::super::graph::{Feed, Tensor};
    use super::*;

    /// Puts tensors together in the host's memory.
    struct Host;

    impl Graph for Host {
        fn call(&mut self, _: &[Feed<'_>], _: &mut Vec<Value>) -> Result<()> {
            Err(Error::new(ErrorKind::Internal, "no graph"))
        }

        fn fork(&self) -> Result<Box<dyn Graph>> {
            Ok(Box::new(Self))
        }
    }

    fn carried() -> Arc<[Carried]> {
        let carried = |kind| Carried { name: "tensor".to_owned(), kind, batch: 0, own_time: false };
        let memory = Kind::Memory { time: Some(0) };
        [Kind::Fixed, Kind::Growing { axis: 0 }, memory, memory].map(carried).into()
    }

    /// Rows whose state is their last column, a cache of what they were, and two memories of their columns.
    fn part(first_source: u64, rows: &[&[f32]]) -> Part {
        let columns = rows[0].len();
        let tensor = |shape: &[usize], data: Vec<f32>| -> Value {
            Arc::new(Tensor { shape: [&[rows.len()], shape].concat(), data })
        };
        let own = |row: &&[f32]| row.iter().filter(|&&x| x != 0.0).count();
        let wide = rows.iter().flat_map(|row| row.iter().flat_map(|&x| [x, x])).collect();
        Part {
            columns,
            sources: (first_source..).take(rows.len()).collect(),
            lengths: rows.iter().map(own).collect(),
            age: 0,
            tensors: vec![
                tensor(&[], rows.iter().map(|row| row[columns - 1]).collect()),
                tensor(&[0], vec![]),
                tensor(&[columns, 2], wide),
                tensor(&[columns], rows.concat()),
            ],
            timed: vec![false, false, true, true],
        }
    }

    /// A step that adds 0.5 to the state and remembers what it was.
    fn step(state: &mut State) -> Result<()> {
        state.settle(&mut Host)?;
        let old = host(&state.values()[0])?.data.clone();
        let past = host(&state.values()[1])?;
        let length = past.shape[1];
        let row = |at: usize| past.data[at * length..(at + 1) * length].iter().copied().chain([old[at]]);
        let present: Vec<f32> = (0..old.len()).flat_map(row).collect();
        let tensor = |shape: Vec<usize>, data| -> Value { Arc::new(Tensor { shape, data }) };
        let next = tensor(vec![old.len()], old.iter().map(|x| x + 0.5).collect());
        state.advance([next, tensor(vec![old.len(), length + 1], present)].into_iter());
        Ok(())
    }

    fn read(state: &mut State) -> Result<Vec<Vec<f32>>> {
        state.settle(&mut Host)?;
        state.values().iter().map(|value| Ok(host(value)?.data.clone())).collect()
    }

    #[test]
    fn rows_that_join_are_filled_up_and_rows_that_leave_take_their_padding_with_them() -> Result<()> {
        let mut state = State::new(carried(), PaddingSide::Left);
        state.join(&part(0, &[&[1.0, 2.0]]), 0..1)?;
        step(&mut state)?;
        state.join(&part(1, &[&[3.0, 4.0, 5.0, 6.0], &[0.0, 0.0, 7.0, 8.0]]), 0..1)?;
        step(&mut state)?;
        let [now, past, wide, mask] = <[_; 4]>::try_from(read(&mut state)?).unwrap_or_default();
        assert_eq!(now, [3.0, 6.5]);
        assert_eq!(past, [2.0, 2.5, 0.0, 6.0], "a younger row's past is filled up on the left");
        assert_eq!(mask, [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(wide.len(), 16);
        state.keep(&[1, 0, 0]);
        state.keep(&[2, 1]);
        let [now, past, wide, mask] = <[_; 4]>::try_from(read(&mut state)?).unwrap_or_default();
        assert_eq!((now, past), (vec![3.0; 2], vec![2.0, 2.5, 2.0, 2.5]));
        assert_eq!(wide, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
        assert_eq!((mask, state.columns()), (vec![1.0, 2.0, 1.0, 2.0], 2));
        Ok(())
    }

    #[test]
    fn sources_that_are_filled_up_on_the_right_stay_at_the_left() -> Result<()> {
        let mut state = State::new(carried(), PaddingSide::Right);
        state.join(&part(0, &[&[1.0, 2.0]]), 0..1)?;
        state.join(&part(1, &[&[3.0, 4.0, 5.0]]), 0..1)?;
        assert_eq!(read(&mut state)?[3], [1.0, 2.0, 0.0, 3.0, 4.0, 5.0]);
        state.keep(&[0]);
        assert_eq!(read(&mut state)?[3], [1.0, 2.0]);
        Ok(())
    }

    #[test]
    fn the_past_of_an_old_row_goes_with_it() -> Result<()> {
        let mut state = State::new(carried(), PaddingSide::Left);
        state.join(&part(0, &[&[1.0]]), 0..1)?;
        (0..3).try_for_each(|_| step(&mut state))?;
        state.join(&part(1, &[&[4.0]]), 0..1)?;
        step(&mut state)?;
        assert_eq!(read(&mut state)?[1], [1.0, 1.5, 2.0, 2.5, 0.0, 0.0, 0.0, 4.0]);
        state.keep(&[1]);
        assert_eq!(read(&mut state)?[1], [4.0]);
        Ok(())
    }

    #[test]
    fn only_what_is_not_in_place_is_copied_and_that_once() -> Result<()> {
        let mut state = State::new(carried(), PaddingSide::Left);
        let copied = |state: &mut State| -> Result<usize> {
            COPIED.set(0);
            state.settle(&mut Host)?;
            Ok(COPIED.get())
        };
        state.join(&part(0, &[&[1.0, 2.0], &[3.0, 4.0]]), 0..2)?;
        assert_eq!(copied(&mut state)?, 0, "the first rows are taken as they are");
        state.keep(&[0, 0, 1, 1]);
        assert_eq!(copied(&mut state)?, 4 + 16 + 8);
        step(&mut state)?;
        assert_eq!(copied(&mut state)?, 0);
        state.keep(&[1, 0, 2, 2]);
        assert_eq!(
            copied(&mut state)?,
            4 + 4,
            "beams change places, the memory of their source does not move"
        );
        state.keep(&[0, 1, 2]);
        state.keep(&[1, 2]);
        state.join(&part(2, &[&[5.0, 6.0]]), 0..1)?;
        assert_eq!(copied(&mut state)?, 3 + 3 + 12 + 6, "rows left twice and one joined: one copy");
        Ok(())
    }

    #[test]
    fn a_state_of_another_shape_is_an_error_and_what_runs_stays() -> Result<()> {
        let mut state = State::new(carried(), PaddingSide::Left);
        state.join(&part(0, &[&[1.0, 2.0]]), 0..1)?;
        let mut other = part(1, &[&[3.0, 4.0]]);
        other.tensors[0] = Arc::new(Tensor { shape: vec![1, 3], data: vec![0.0; 3] });
        assert!(state.join(&other, 0..1).is_err());
        assert_eq!((state.rows(), read(&mut state)?[0].as_slice()), (1, &[2.0][..]));
        Ok(())
    }
}
