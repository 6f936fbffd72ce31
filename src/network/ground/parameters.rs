//! Named tensors in one flat buffer, in ONNX's own shapes and gate order, so that export is a copy.

use std::borrow::Cow;
use std::ops::Range;

use super::gather::transpose;
use s2s_kernels::Real;

/// The parameters of a network (or their gradients, or a moment of the optimiser): named tensors laid end to
/// end.
///
/// One flat buffer lets the optimiser, the gradient norm and the checkpoint walk all of them in one loop.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters<R> {
    layout: Layout,
    data: Vec<R>,
}

/// Names, shapes and places of tensors laid end to end, without their values: how much memory they take is
/// known before any of it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<Entry>,
    len: usize,
}

/// Name and place of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// For example `encoder.lstm_0.W`; the initialiser's name in every exported graph.
    pub name: String,
    /// The lengths of the axes of the tensor as it is kept, row-major.
    pub shape: Vec<usize>,
    /// How the graphs have it otherwise.
    form: Form,
    offset: usize,
}

/// How the graphs have a tensor otherwise than it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Form {
    /// A matrix (rows, columns) as (1, columns, rows).
    is_transposed: bool,
    /// A matrix with one more column, [`HELD`] in these rows and 0 in all others.
    held: Range<usize>,
    /// A vector as (1, n) with zeros around it: how many before it, and n.
    within: Option<(usize, usize)>,
}

/// Where a gate's input has this, the logistic function is 1 in f32 whatever else a network adds: that of 17
/// is already.
pub(in crate::network) const HELD: f64 = 40.0;

/// Handle of one tensor of a [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParameterId(pub(in crate::network) usize);

impl Entry {
    /// Returns the lengths of the axes of the tensor in the graphs.
    pub fn exported_shape(&self) -> Vec<usize> {
        if let Some((_, all)) = self.form.within {
            return vec![1, all];
        }
        let mut shape =
            if self.form.is_transposed { vec![1, self.shape[1], self.shape[0]] } else { self.shape.clone() };
        if let Some(columns) = shape.last_mut().filter(|_| !self.form.held.is_empty()) {
            *columns += 1;
        }
        shape
    }

    /// Counts the values of the tensor.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Layout {
    /// Adds a tensor that is kept as the graphs have it.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize]) -> ParameterId {
        self.add_entry(name.into(), shape, Form::default())
    }

    /// Adds a matrix (rows, columns) that the graphs have as (1, columns, rows), with one more column behind
    /// that is large in the rows of `held`, unless there are none.
    pub fn add_transposed(
        &mut self,
        name: impl Into<String>,
        shape: [usize; 2],
        held: Range<usize>,
    ) -> ParameterId {
        self.add_entry(name.into(), &shape, Form { is_transposed: true, held, within: None })
    }

    /// Adds a tensor (1, rows, columns) that has one more column in the graphs, large in the rows of `held`,
    /// unless there are none.
    pub fn add_held(
        &mut self,
        name: impl Into<String>,
        shape: &[usize; 3],
        held: Range<usize>,
    ) -> ParameterId {
        self.add_entry(name.into(), shape, Form { held, ..Form::default() })
    }

    /// Adds a vector that the graphs have as (1, all), zeros around it, `before` of them before it.
    pub fn add_within(
        &mut self,
        name: impl Into<String>,
        length: usize,
        before: usize,
        all: usize,
    ) -> ParameterId {
        self.add_entry(name.into(), &[length], Form { within: Some((before, all)), ..Form::default() })
    }

    fn add_entry(&mut self, name: String, shape: &[usize], form: Form) -> ParameterId {
        let entry = Entry { name, shape: shape.to_vec(), form, offset: self.len };
        // Sizes that no memory holds stay far above every bound instead of wrapping round.
        self.len = self
            .len
            .saturating_add(shape.iter().fold(1, |product: usize, &axis| product.saturating_mul(axis)));
        self.entries.push(entry);
        ParameterId(self.entries.len() - 1)
    }

    /// Finds a tensor by name.
    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.entries.iter().position(|e| e.name == name).map(ParameterId)
    }

    /// Counts the values of all tensors; the largest number there is where they are more.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<R: Copy + Default> Default for Parameters<R> {
    fn default() -> Self {
        Self { layout: Layout::default(), data: Vec::new() }
    }
}

impl<R: Copy + Default> Parameters<R> {
    /// Makes tensors of zeros as a layout has them.
    pub fn zeros(layout: &Layout) -> Self {
        Self { layout: layout.clone(), data: vec![R::default(); layout.len] }
    }

    /// Adds a tensor of zeros behind the others.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize]) -> ParameterId {
        let id = self.layout.add(name, shape);
        self.data.resize(self.layout.len, R::default());
        id
    }

    /// Makes zeros of the same names and shapes.
    pub fn zeros_like(&self) -> Self {
        self.like(vec![R::default(); self.data.len()])
    }

    /// Gives the same names and shapes other values, as many.
    fn like<S>(&self, data: Vec<S>) -> Parameters<S> {
        Parameters { layout: self.layout.clone(), data }
    }

    /// Gives the same names and shapes other values, row-major and end to end; `None` where the number
    /// differs.
    pub fn with_data(&self, data: Vec<R>) -> Option<Self> {
        (data.len() == self.data.len()).then(|| self.like(data))
    }

    /// Converts the values one by one, for a run in another precision.
    pub fn map<S: Copy + Default>(&self, f: impl FnMut(R) -> S) -> Parameters<S> {
        self.like(self.data.iter().copied().map(f).collect())
    }

    /// Borrows the values of one tensor, row-major.
    pub fn get(&self, id: ParameterId) -> &[R] {
        let entry = &self.layout.entries[id.0];
        &self.data[entry.offset..entry.offset + entry.len()]
    }

    /// Borrows the values of one tensor, row-major, to change them.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [R] {
        let place = self.place(id);
        &mut self.data[place]
    }

    /// Tells where the values of one tensor lie in [`data`](Self::data).
    pub fn place(&self, id: ParameterId) -> Range<usize> {
        let entry = &self.layout.entries[id.0];
        entry.offset..entry.offset + entry.len()
    }

    /// Returns name and shape of one tensor.
    pub fn entry(&self, id: ParameterId) -> &Entry {
        &self.layout.entries[id.0]
    }

    /// Finds a tensor by name.
    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.layout.find(name)
    }

    /// Lists all tensors in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Entry, &[R])> {
        self.layout.entries.iter().map(|e| (e, &self.data[e.offset..e.offset + e.len()]))
    }

    /// Lists the handles of all tensors in order.
    pub fn ids(&self) -> impl Iterator<Item = ParameterId> + use<R> {
        (0..self.layout.entries.len()).map(ParameterId)
    }

    /// Borrows all values end to end.
    pub fn data(&self) -> &[R] {
        &self.data
    }

    /// Borrows all values end to end, to change them.
    pub fn data_mut(&mut self) -> &mut [R] {
        &mut self.data
    }

    /// Counts the values of all tensors.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

impl<R: Real> Parameters<R> {
    /// Gives the shape and the row-major values of a tensor as the graphs have it.
    pub fn exported(&self, id: ParameterId) -> (Vec<usize>, Cow<'_, [R]>) {
        let (entry, values) = (self.entry(id), self.get(id));
        let shape = entry.exported_shape();
        if let Some((before, all)) = entry.form.within {
            let mut wide = vec![R::ZERO; all];
            wide[before..before + values.len()].copy_from_slice(values);
            return (shape, Cow::Owned(wide));
        }
        let values = match entry.shape[..] {
            [rows, columns] if entry.form.is_transposed => Cow::Owned(transpose(values, rows, columns)),
            _ => Cow::Borrowed(values),
        };
        let (held, columns) = (&entry.form.held, shape.last().copied().unwrap_or(1));
        if held.is_empty() {
            return (shape, values);
        }
        let rows = values.chunks_exact(columns - 1).enumerate();
        let last = |row: usize| if held.contains(&row) { R::from_f64(HELD) } else { R::ZERO };
        let values = rows.flat_map(|(at, row)| row.iter().copied().chain([last(at)])).collect();
        (shape, Cow::Owned(values))
    }

    /// Replaces the values of a tensor by row-major ones of its [`exported_shape`](Entry::exported_shape), as
    /// many.
    pub fn set_exported(&mut self, id: ParameterId, values: &[R]) {
        let entry = self.entry(id);
        if let Some((before, _)) = entry.form.within {
            let length = entry.len();
            self.get_mut(id).copy_from_slice(&values[before..before + length]);
            return;
        }
        let mut values = Cow::Borrowed(values);
        if let (false, Some(&columns)) = (entry.form.held.is_empty(), entry.exported_shape().last()) {
            values = values.chunks_exact(columns).flat_map(|row| &row[..columns - 1]).copied().collect();
        }
        match entry.shape[..] {
            [rows, columns] if entry.form.is_transposed => {
                self.get_mut(id).copy_from_slice(&transpose(&values, columns, rows));
            }
            _ => self.get_mut(id).copy_from_slice(&values),
        }
    }
}
