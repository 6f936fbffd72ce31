//! The gradients of a shard: which of them a step has written, so that nobody reads, clears or moves the others.

use std::ops::Range;

use super::parameters::{ParameterId, Parameters};
use crate::kernels::{Real, Store, add_assign};

/// Gradients of all parameters, laid out like these, that begin every step as zeros without being cleared.
///
/// A table of thousands of symbols is written in a few rows a step, a matrix as a whole by one product. So each stretch of
/// [`STRETCH`] values has a mark: what is not marked counts as zero and holds leftovers of an earlier step.
#[derive(Clone, Debug)]
pub struct Gradients<R> {
    values: Parameters<R>,
    written: Vec<bool>,
    /// Tensors of which anything was lent since the marks were cleared.
    touched: Vec<bool>,
}

/// Values that are marked together.
pub const STRETCH: usize = 256;

impl<R: Real> Gradients<R> {
    /// Zeros for these parameters.
    pub fn new(parameters: &Parameters<R>) -> Self {
        let tensors = parameters.ids().count();
        Self { values: parameters.zeros_like(), written: vec![false; parameters.len().div_ceil(STRETCH)], touched: vec![false; tensors] }
    }

    /// One tensor to add to, row-major.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [R] {
        let len = self.values.entry(id).len();
        self.part_mut(id, 0..len)
    }

    /// Some values of one tensor to add to.
    pub fn part_mut(&mut self, id: ParameterId, part: Range<usize>) -> &mut [R] {
        let start = self.values.place(id).start;
        let place = start + part.start..start + part.end;
        self.touched[id.0] = true;
        if !place.is_empty() {
            for stretch in place.start / STRETCH..place.end.div_ceil(STRETCH) {
                self.mark(stretch);
            }
        }
        &mut self.values.data_mut()[place]
    }

    /// Adds `values` to some values of one tensor, from `at` on.
    pub fn add(&mut self, id: ParameterId, at: usize, values: &[R]) {
        let start = self.values.place(id).start + at;
        let place = start..start + values.len();
        let stretches = place.start / STRETCH..place.end.div_ceil(STRETCH);
        let is_whole = place.start % STRETCH == 0 && (place.end % STRETCH == 0 || place.end == self.values.len());
        if is_whole && !self.written[stretches.clone()].contains(&true) {
            self.touched[id.0] = true;
            self.written[stretches].fill(true);
            self.values.data_mut()[place].copy_from_slice(values);
        } else {
            add_assign(self.part_mut(id, at..at + values.len()), values);
        }
    }

    /// One tensor for a product that writes every value of it, and how: what was not touched yet is overwritten.
    pub fn product_mut(&mut self, id: ParameterId) -> (&mut [R], Store<'static, R>) {
        let place = self.values.place(id);
        if self.touched[id.0] || place.is_empty() {
            return (self.get_mut(id), Store::Add);
        }
        self.touched[id.0] = true;
        // The outer stretches hold values of the neighbours too.
        self.mark(place.start / STRETCH);
        self.mark((place.end - 1) / STRETCH);
        self.written[place.start / STRETCH..place.end.div_ceil(STRETCH)].fill(true);
        (&mut self.values.data_mut()[place], Store::Overwrite)
    }

    fn mark(&mut self, stretch: usize) {
        if !self.written[stretch] {
            self.written[stretch] = true;
            let end = ((stretch + 1) * STRETCH).min(self.values.len());
            self.values.data_mut()[stretch * STRETCH..end].fill(R::ZERO);
        }
    }

    /// All values end to end, and for each [`STRETCH`] of them whether it was written.
    pub fn data_and_written(&self) -> (&[R], &[bool]) {
        (self.values.data(), &self.written)
    }

    /// All gradients are zero from now on.
    pub fn clear(&mut self) {
        self.written.fill(false);
        self.touched.fill(false);
    }

    /// The gradients as tensors, zeros written out.
    pub fn into_parameters(mut self) -> Parameters<R> {
        (0..self.written.len()).for_each(|stretch| self.mark(stretch));
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three tensors that share stretches with their neighbours, and the gradients of them, full of leftovers.
    fn leftovers() -> (Gradients<f32>, [ParameterId; 3]) {
        let mut p = Parameters::default();
        let ids = [("a", 300), ("b", 1000), ("c", 100)].map(|(name, len)| p.add(name, &[len]));
        let mut gradients = Gradients::new(&p);
        ids.iter().for_each(|&id| gradients.get_mut(id).fill(7.0));
        gradients.clear();
        (gradients, ids)
    }

    #[test]
    fn what_is_lent_for_adding_begins_as_zero() {
        let (mut gradients, [a, b, _]) = leftovers();
        gradients.part_mut(b, 10..20).iter_mut().for_each(|x| *x += 1.0);
        gradients.part_mut(b, 15..16)[0] += 1.0;
        gradients.part_mut(b, 0..0);
        let end = gradients.into_parameters();
        assert_eq!(end.get(b)[..21], [&[0.0; 10][..], &[1.0; 5], &[2.0], &[1.0; 4], &[0.0]].concat());
        assert!(end.get(a).iter().all(|&x| x == 0.0));
        assert_eq!(end.data().iter().sum::<f32>(), 11.0);
    }

    #[test]
    fn what_is_added_first_is_copied_only_where_it_fills_its_stretches() {
        let mut p = Parameters::default();
        let (a, b) = (p.add("a", &[STRETCH, 2]), p.add("b", &[3]));
        let mut gradients = Gradients::new(&p);
        gradients.get_mut(a).fill(7.0);
        gradients.clear();
        let row = [2.0f32; STRETCH];
        gradients.add(a, STRETCH, &row);
        gradients.add(a, STRETCH, &row);
        gradients.add(a, 1, &row[..3]);
        gradients.add(b, 1, &row[..2]);
        let end = gradients.into_parameters();
        assert_eq!(end.get(a)[..5], [0.0, 2.0, 2.0, 2.0, 0.0]);
        assert!(end.get(a)[STRETCH..].iter().all(|&x| x == 4.0));
        assert_eq!((end.get(a)[5..STRETCH].iter().sum::<f32>(), end.get(b)), (0.0, &[0.0, 2.0, 2.0][..]));
    }

    #[test]
    fn a_product_overwrites_what_was_not_touched_and_nothing_else() {
        let (mut gradients, [a, b, c]) = leftovers();
        gradients.part_mut(a, 299..300)[0] += 3.0;
        gradients.part_mut(c, 0..1)[0] += 4.0;
        let (values, store) = gradients.product_mut(b);
        assert_eq!(store, Store::Overwrite);
        values.fill(5.0);
        let (values, store) = gradients.product_mut(b);
        assert_eq!((store, values.iter().sum::<f32>()), (Store::Add, 5000.0));
        let (values, store) = gradients.product_mut(a);
        assert_eq!((store, values.iter().sum::<f32>()), (Store::Add, 3.0));
        let end = gradients.into_parameters();
        assert_eq!(end.data().iter().sum::<f32>(), 5007.0);
        assert_eq!((end.get(a)[299], end.get(c)[0]), (3.0, 4.0));
    }
}
