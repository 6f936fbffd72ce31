//! A graph that may have a second form for many rows, made when it begins to pay.

use std::sync::Arc;

use super::arrange::Arrangement;
use super::graph::{Feed, Graph, Tensor, TensorView, Value};
use crate::error::Result;

/// Rows of a call from which on the second form is the faster one (measured in ort: the same at 4, a sixth
/// faster at 8 and a quarter at 64).
const WIDE: usize = 8;
/// Rows in such calls before the second form is made: making it takes as long as encoding some hundreds.
const ROWS_BEFORE_MAKING: usize = 512;
/// How far the two forms may differ, relative above 1: both compute in f32, in another order.
const TOLERANCE: f32 = 1e-4;

/// Gives nothing where the graph has no second form.
type Maker = dyn Fn() -> Result<Option<Box<dyn Graph>>> + Send + Sync;

/// Two forms of the same graph, its batch the first axis of its first input.
pub(super) struct TwoForms {
    narrow: Box<dyn Graph>,
    wide: Option<Box<dyn Graph>>,
    /// `None` once it was made, or was found wanting.
    maker: Option<Arc<Maker>>,
    rows: usize,
}

impl TwoForms {
    /// `narrow`, and what `maker` makes where that pays.
    pub(super) fn new(narrow: Box<dyn Graph>, maker: Arc<Maker>) -> Self {
        Self { narrow, wide: None, maker: Some(maker), rows: 0 }
    }

    /// Makes the second form and holds it against the first on the call at hand; it is left out where
    /// anything is wrong.
    fn make(&mut self, maker: &Maker, inputs: &[Feed<'_>], expected: &[Value]) {
        let mut given = Vec::new();
        let made = match maker() {
            Ok(None) => return,
            Ok(Some(mut graph)) => graph.call(inputs, &mut given).map(|()| graph),
            Err(error) => Err(error),
        };
        match made {
            Ok(graph)
                if expected.len() == given.len()
                    && expected.iter().zip(&given).all(|(a, b)| self.agree(a, b).unwrap_or(false)) =>
            {
                self.wide = Some(graph);
            }
            Ok(_) => {
                tracing::warn!("the engine computes another form of a graph differently; it is not used");
            }
            Err(error) => tracing::debug!(%error, "the engine cannot load another form of a graph"),
        }
    }

    fn agree(&self, a: &Value, b: &Value) -> Result<bool> {
        let [mut first, mut second] = [Tensor::default(), Tensor::default()];
        self.narrow.read(a, &mut first)?;
        self.narrow.read(b, &mut second)?;
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * a.abs().max(1.0);
        Ok(first.shape == second.shape && first.data.iter().zip(&second.data).all(near))
    }
}

impl Graph for TwoForms {
    fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<Value>) -> Result<()> {
        let rows = inputs.first().and_then(|input| input.shape().first()).copied().unwrap_or(0);
        if rows < WIDE {
            return self.narrow.call(inputs, outputs);
        }
        if let Some(wide) = &mut self.wide {
            match wide.call(inputs, outputs) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "the engine fails on another form of a graph; it is not used any \
                        more");
                }
            }
            self.wide = None;
        }
        self.narrow.call(inputs, outputs)?;
        self.rows += rows;
        if let Some(maker) = self.maker.take_if(|_| self.rows >= ROWS_BEFORE_MAKING) {
            self.make(&*maker, inputs, outputs);
        }
        Ok(())
    }

    fn upload(&self, tensor: TensorView<'_>) -> Result<Value> {
        self.narrow.upload(tensor)
    }

    fn read(&self, value: &Value, into: &mut Tensor) -> Result<()> {
        self.narrow.read(value, into)
    }

    fn read_rows(&self, value: &Value, width: usize, rows: &[usize], into: &mut Tensor) -> Result<()> {
        self.narrow.read_rows(value, width, rows, into)
    }

    fn arrange(&mut self, parts: &[&Value], arrangement: &Arrangement<'_>) -> Result<Value> {
        self.narrow.arrange(parts, arrangement)
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        let (narrow, wide) = (self.narrow.fork()?, self.wide.as_ref().map(|wide| wide.fork()).transpose()?);
        Ok(Box::new(Self { narrow, wide, maker: self.maker.clone(), rows: self.rows }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::engine::graph::DataView;
    use crate::error::{Error, ErrorKind};

    /// Gives each row's first id, plus a constant, and counts its calls.
    struct Plus(f32, Arc<AtomicUsize>);

    impl Graph for Plus {
        fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<Value>) -> Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            let Feed::Host(TensorView { data: DataView::I64(ids), .. }) = inputs[0] else { unreachable!() };
            let data = ids.iter().map(|&id| id as f32 + self.0).collect();
            *outputs = vec![Arc::new(Tensor { shape: vec![ids.len()], data })];
            Ok(())
        }

        fn fork(&self) -> Result<Box<dyn Graph>> {
            Ok(Box::new(Self(self.0, Arc::clone(&self.1))))
        }
    }

    /// Calls of both forms, of 20 calls with `rows` rows after which a fork makes one more; `maker` makes the
    /// second form.
    fn calls(
        rows: usize,
        maker: impl Fn(Arc<AtomicUsize>) -> Result<Option<Box<dyn Graph>>> + Send + Sync + 'static,
    ) -> (usize, usize) {
        let (narrow, wide) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&wide);
        let mut graph: Box<dyn Graph> = Box::new(TwoForms::new(
            Box::new(Plus(0.5, Arc::clone(&narrow))),
            Arc::new(move || maker(Arc::clone(&counter))),
        ));
        let ids: Vec<i64> = (0..rows as i64).collect();
        let mut outputs = Vec::new();
        for call in 0..21 {
            if call == 20 {
                graph = graph.fork().unwrap();
            }
            graph.run(&[TensorView { shape: &[rows, 1], data: DataView::I64(&ids) }], &mut outputs).unwrap();
            assert_eq!(outputs[0].data[rows - 1], rows as f32 - 0.5);
        }
        (narrow.load(Ordering::Relaxed), wide.load(Ordering::Relaxed))
    }

    #[test]
    fn the_second_form_is_made_once_it_pays_and_only_if_it_agrees() {
        let good = |counter| Ok(Some(Box::new(Plus(0.5, counter)) as Box<dyn Graph>));
        // Eight calls of 64 rows; the eighth is where the second form is held against the first.
        assert_eq!(calls(64, good), (8, 14));
        assert_eq!(calls(WIDE - 1, good), (21, 0));
        assert_eq!(calls(64, |counter| Ok(Some(Box::new(Plus(0.6, counter))))), (21, 1));
        assert_eq!(calls(64, |_| Ok(None)), (21, 0));
        assert_eq!(calls(64, |_| Err(Error::new(ErrorKind::Engine, "no Scan here"))), (21, 0));
    }
}
