//! Named tensors in one flat buffer, in ONNX's own shapes and gate order, so that export is a copy.

use std::ops::Range;

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
    /// Axes, row-major.
    pub shape: Vec<usize>,
    offset: usize,
}

/// Handle of one tensor of a [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParameterId(pub(in crate::network) usize);

impl Entry {
    /// Values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Layout {
    /// Adds a tensor.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize]) -> ParameterId {
        let entry = Entry { name: name.into(), shape: shape.to_vec(), offset: self.len };
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

    /// Number of values of all tensors; the largest number there is where they are more.
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
    /// Tensors of zeros.
    pub fn zeros(layout: &Layout) -> Self {
        Self { layout: layout.clone(), data: vec![R::default(); layout.len] }
    }

    /// Adds a tensor of zeros.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize]) -> ParameterId {
        let id = self.layout.add(name, shape);
        self.data.resize(self.layout.len, R::default());
        id
    }

    /// The same names and shapes, all zero.
    pub fn zeros_like(&self) -> Self {
        self.like(vec![R::default(); self.data.len()])
    }

    /// The same names and shapes with other values, as many.
    fn like<S>(&self, data: Vec<S>) -> Parameters<S> {
        Parameters { layout: self.layout.clone(), data }
    }

    /// The same names and shapes with other values, row-major and end to end; `None` where the number
    /// differs.
    pub fn with_data(&self, data: Vec<R>) -> Option<Self> {
        (data.len() == self.data.len()).then(|| self.like(data))
    }

    /// Values converted one by one, for a run in another precision.
    pub fn map<S: Copy + Default>(&self, f: impl FnMut(R) -> S) -> Parameters<S> {
        self.like(self.data.iter().copied().map(f).collect())
    }

    /// The values of one tensor, row-major.
    pub fn get(&self, id: ParameterId) -> &[R] {
        let entry = &self.layout.entries[id.0];
        &self.data[entry.offset..entry.offset + entry.len()]
    }

    /// The values of one tensor, row-major.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [R] {
        let place = self.place(id);
        &mut self.data[place]
    }

    /// Where the values of one tensor lie in [`data`](Self::data).
    pub fn place(&self, id: ParameterId) -> Range<usize> {
        let entry = &self.layout.entries[id.0];
        entry.offset..entry.offset + entry.len()
    }

    /// Name and shape of one tensor.
    pub fn entry(&self, id: ParameterId) -> &Entry {
        &self.layout.entries[id.0]
    }

    /// Finds a tensor by name.
    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.layout.find(name)
    }

    /// All tensors in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Entry, &[R])> {
        self.layout.entries.iter().map(|e| (e, &self.data[e.offset..e.offset + e.len()]))
    }

    /// All tensors in order.
    pub fn ids(&self) -> impl Iterator<Item = ParameterId> + use<R> {
        (0..self.layout.entries.len()).map(ParameterId)
    }

    /// All values end to end.
    pub fn data(&self) -> &[R] {
        &self.data
    }

    /// All values end to end.
    pub fn data_mut(&mut self) -> &mut [R] {
        &mut self.data
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}
