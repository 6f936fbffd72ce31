//! Graphs on a device, whose tensors stay there from step to step.

use std::sync::Arc;

use ort::session::RunOptions;

use super::bound::Bound;
use super::helpers::Helper;
use super::session::{failure, positions, run_options, run_options_within};
use super::tensor::{Memory, OrtTensor};
use crate::engine::arrange::Arrangement;
use crate::engine::best::{BestFew, SumOver, Wanted};
use crate::engine::blocks::Blocks;
use crate::engine::deadline::Deadline;
use crate::engine::device::Device;
use crate::engine::graph::{DataView, Feed, Graph, Job, Scores, Signature, Tensor, TensorView, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::{BOOL, FLOAT, GraphInfo, INT32};

/// Scores that are read whole, because that takes no longer than a call of a graph that looks for the best.
const FEW_SCORES: usize = 16 << 10;

/// A graph on a device. Its forks share the session, and with it the weights.
pub(super) struct Accelerated {
    bound: Arc<Bound>,
    device: Device,
    signature: Signature,
    /// Through which a run that does not end is stopped while the bundle is opened.
    options: Arc<RunOptions>,
    /// The session's inputs, as positions in the caller's list.
    inputs: Vec<usize>,
    /// The caller's outputs, as positions in the session's list.
    outputs: Vec<usize>,
    /// What was banned last, as masks on the device.
    masks: Vec<Mask>,
}

/// Banned ids as a graph reads them.
struct Mask {
    ids: Vec<u32>,
    width: usize,
    value: Value,
}

/// Masks that are kept: two are in use, and requests of few kinds run at a time.
const MOST_MASKS: usize = 8;

impl Accelerated {
    pub(super) fn load(
        device: Device,
        name: &str,
        model: &[u8],
        info: &GraphInfo,
        inputs: &[&str],
        outputs: &[&str],
        deadline: &Deadline,
    ) -> Result<Self> {
        let signature = Signature::new(name, info, inputs, outputs)?;
        let bound = Arc::new(Bound::open(device, name, model)?);
        let [session_inputs, session_outputs] = [&bound.inputs, &bound.outputs]
            .map(|names| names.iter().map(String::as_str).collect::<Vec<&str>>());
        let (inputs, outputs) = positions(name, [&session_inputs, &session_outputs], inputs, outputs)?;
        let options = run_options_within(name, deadline)?;
        Ok(Self { bound, device, signature, options, inputs, outputs, masks: Vec::new() })
    }

    fn failed(&self, error: &ort::Error) -> Error {
        failure(self.signature.name(), "failed", &error.to_string())
    }

    /// Runs a small graph of the device.
    fn help(&self, helper: &Helper, feeds: &[Feed<'_>], memory: &[Memory]) -> Result<Vec<Value>> {
        helper.on(self.device)?.run(feeds, memory, &self.options).map_err(|error| self.failed(&error))
    }

    /// A tensor of this device with these values, in its memory or in the host's.
    fn copied(&self, feed: Feed<'_>, memory: Memory) -> Result<Value> {
        let element_type = match &feed {
            Feed::Host(view) => view.data.described().0,
            Feed::Value(value) => value.element_type(),
        };
        let mut copies = self.help(&Helper::Copy(element_type), &[feed], &[memory])?;
        copies.pop().ok_or_else(|| self.failed(&ort::Error::new("an output is missing")))
    }

    /// The parts that an arrangement reads as one tensor, blocks of zeros behind them if it wants any.
    fn table(&self, parts: &[&Value], blocks: &Blocks) -> Result<Value> {
        let width = blocks.width;
        let mut used: Vec<Value> = blocks.parts.iter().map(|&part| Arc::clone(parts[part])).collect();
        let kind = parts.first().map_or(FLOAT, |part| part.element_type());
        if blocks.zeros {
            used.push(zeros(&[1, width], kind).map_err(|error| self.failed(&error))?);
        }
        // From behind, so that what many rows have, the first part, is copied once.
        let Some(mut table) = used.pop() else {
            return Err(self.failed(&ort::Error::new("a tensor of no parts")));
        };
        while let Some(part) = used.pop() {
            let table_shape = signed(&[-1], &[width]);
            let feeds = [Feed::Value(&part), Feed::Value(&table), integers(&[2], &table_shape)];
            let mut joined = self.help(&Helper::Concat(kind), &feeds, &[Memory::Device])?;
            table = joined.pop().ok_or_else(|| self.failed(&ort::Error::new("an output is missing")))?;
        }
        Ok(table)
    }

    /// Banned ids as a mask on the device.
    fn mask(&mut self, ids: &[u32], width: usize) -> Result<Value> {
        if let Some(at) = self.masks.iter().position(|mask| mask.width == width && mask.ids == ids) {
            return Ok(Arc::clone(&self.masks[at].value));
        }
        let mut data = vec![false; width];
        for &id in ids {
            if let Some(banned) = data.get_mut(id as usize) {
                *banned = true;
            }
        }
        let view = TensorView { shape: &[1, width], data: DataView::Bool(&data) };
        let value = self.copied(Feed::Host(view), Memory::Device)?;
        if self.masks.len() == MOST_MASKS {
            self.masks.remove(0);
        }
        self.masks.push(Mask { ids: ids.to_vec(), width, value: Arc::clone(&value) });
        Ok(value)
    }
}

impl Graph for Accelerated {
    fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<Value>) -> Result<()> {
        self.call_to_read(inputs, &[], outputs)
    }

    fn call_to_read(&mut self, inputs: &[Feed<'_>], read: &[bool], outputs: &mut Vec<Value>) -> Result<()> {
        self.signature.check(inputs)?;
        outputs.clear();
        let feeds: Vec<Feed<'_>> = self.inputs.iter().map(|&position| inputs[position]).collect();
        let mut memory = vec![Memory::Device; self.bound.outputs.len()];
        for (&position, _) in self.outputs.iter().zip(read).filter(|(_, read)| **read) {
            memory[position] = Memory::Host;
        }
        let results = self.bound.run(&feeds, &memory, &self.options).map_err(|error| self.failed(&error))?;
        outputs.extend(self.outputs.iter().map(|&position| Arc::clone(&results[position])));
        Ok(())
    }

    fn finds_best(&self, values: usize) -> bool {
        values > FEW_SCORES || self.device == Device::Simulated
    }

    fn best(&mut self, scores: &Scores<'_>, wanted: &Wanted<'_>, into: &mut BestFew) -> Result<()> {
        let width = scores.width;
        let k = wanted.best.clamp(1, width.max(1));
        let left_out = if wanted.sum == SumOver::All { &[][..] } else { wanted.banned };
        let (banned, left_out) = (self.mask(wanted.banned, width)?, self.mask(left_out, width)?);
        let (table, best) = (signed(&[-1], &[width]), signed(&[], &[k]));
        let mut feeds = vec![
            Feed::Value(scores.value),
            integers(&[2], &table),
            integers(&[1], &best),
            Feed::Value(&banned),
            Feed::Value(&left_out),
        ];
        let index = scores.rows.map(|rows| signed(&[], rows));
        let rows_shape = [index.as_ref().map_or(0, Vec::len)];
        feeds.extend(index.as_ref().map(|index| integers(&rows_shape, index)));
        let helper = Helper::Best {
            some: index.is_some(),
            least_probability: scores.least_probability.map(f32::to_bits),
        };
        let found = self.help(&helper, &feeds, &[Memory::Host; 3])?;
        let tensors = found.iter().map(OrtTensor::of).collect::<ort::Result<Vec<_>>>();
        let tensors = tensors.map_err(|error| self.failed(&error))?;
        let read = || -> ort::Result<(&[f32], &[i64], &[f32])> {
            Ok((
                tensors[0].value.try_extract_tensor::<f32>()?.1,
                tensors[1].value.try_extract_tensor::<i64>()?.1,
                tensors[2].value.try_extract_tensor::<f32>()?.1,
            ))
        };
        let (logits, ids, sums) = read().map_err(|error| self.failed(&error))?;
        into.reset(k);
        let mut ranked: Vec<(f32, u32)> = Vec::with_capacity(k);
        for (row, ((logits, ids), &sum)) in
            logits.chunks_exact(k).zip(ids.chunks_exact(k)).zip(sums).enumerate()
        {
            if !sum.is_finite() {
                // No numbers, or no symbol that is left: which of them, all scores of the row say.
                let mut whole = Tensor::default();
                let row = scores.rows.map_or(row, |rows| rows.get(row).copied().unwrap_or(row));
                self.read_rows(scores.value, width, &[row], &mut whole)?;
                if let Some(least) = scores.least_probability {
                    whole.data.iter_mut().for_each(|p| *p = p.max(least).ln());
                }
                into.push(&mut whole.data, wanted);
                continue;
            }
            ranked.clear();
            ranked.extend(logits.iter().copied().zip(ids.iter().map(|&id| u32::try_from(id).unwrap_or(0))));
            // Devices do not promise that of equal ones the lowest id comes first.
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            into.push_found(&ranked, sum);
        }
        Ok(())
    }

    fn upload(&self, tensor: TensorView<'_>) -> Result<Value> {
        if tensor.data.described().1 == 0 {
            let empty = OrtTensor::uploaded(tensor).and_then(|value| OrtTensor::wrapped(value, Memory::Host));
            return empty.map_err(|error| self.failed(&error));
        }
        self.copied(Feed::Host(tensor), Memory::Device)
    }

    fn read(&self, value: &Value, into: &mut Tensor) -> Result<()> {
        let tensor = OrtTensor::of(value).map_err(|error| self.failed(&error))?;
        if tensor.memory == Memory::Host {
            return tensor.read(into).map_err(|error| self.failed(&error));
        }
        let copy = self.copied(Feed::Value(value), Memory::Host)?;
        OrtTensor::of(&copy).and_then(|tensor| tensor.read(into)).map_err(|error| self.failed(&error))
    }

    fn read_rows(&self, value: &Value, width: usize, rows: &[usize], into: &mut Tensor) -> Result<()> {
        let values: usize = value.shape().iter().product();
        if let Some(row) = rows.iter().find(|&&row| row.saturating_add(1).saturating_mul(width) > values) {
            let message = format!("{values} values where row {row} of {width} should be");
            return Err(Error::new(ErrorKind::Engine, message).in_graph(self.signature.name(), None));
        }
        let (table, index, shape) =
            (signed(&[-1], &[width]), signed(&[], rows), signed(&[], &[rows.len(), width]));
        let index_shape = [index.len()];
        let feeds = [
            Feed::Value(value),
            integers(&[2], &table),
            integers(&index_shape, &index),
            integers(&[2], &shape),
        ];
        let picked = self.help(&Helper::Pick(vec![value.element_type()]), &feeds, &[Memory::Host])?;
        picked.first().map_or(Ok(()), |picked| self.read(picked, into))
    }

    fn arrange(&mut self, parts: &[&Value], arrangement: &Arrangement<'_>) -> Result<Value> {
        let mut arranged = self.arrange_all(&[(parts.to_vec(), *arrangement)])?;
        arranged.pop().ok_or_else(|| self.failed(&ort::Error::new("an output is missing")))
    }

    fn arrange_all(&mut self, jobs: &[Job<'_>]) -> Result<Vec<Value>> {
        struct Pick {
            table: Value,
            table_shape: Vec<i64>,
            index: Vec<i64>,
            index_shape: [usize; 1],
            shape: Vec<i64>,
            shape_shape: [usize; 1],
        }
        // Nothing for a tensor without values.
        let mut picks: Vec<Option<Pick>> = Vec::with_capacity(jobs.len());
        for (parts, arrangement) in jobs {
            let shapes: Vec<&[usize]> = parts.iter().map(|part| part.shape()).collect();
            let blocks =
                Blocks::of(arrangement, &shapes).map_err(|message| self.failed(&ort::Error::new(message)))?;
            picks.push(match blocks.width {
                0 => None,
                width => Some(Pick {
                    table: self.table(parts, &blocks)?,
                    table_shape: signed(&[-1], &[width]),
                    index_shape: [blocks.index.len()],
                    shape_shape: [arrangement.shape().len()],
                    shape: signed(&[], &arrangement.shape()),
                    index: blocks.index,
                }),
            });
        }
        let wanted: Vec<&Pick> = picks.iter().flatten().collect();
        let mut feeds = Vec::with_capacity(4 * wanted.len());
        for pick in &wanted {
            feeds.push(Feed::Value(&pick.table));
            feeds.push(integers(&[2], &pick.table_shape));
            feeds.push(integers(&pick.index_shape, &pick.index));
            feeds.push(integers(&pick.shape_shape, &pick.shape));
        }
        let kinds: Vec<i32> = wanted.iter().map(|pick| pick.table.element_type()).collect();
        let memory = vec![Memory::Device; kinds.len()];
        let moved = if kinds.is_empty() { vec![] } else { self.help(&Helper::Pick(kinds), &feeds, &memory)? };
        drop(feeds);
        let mut moved = moved.into_iter();
        let result = |(pick, (parts, arrangement)): (&Option<Pick>, &Job<'_>)| {
            if pick.is_some() {
                return moved.next().ok_or_else(|| self.failed(&ort::Error::new("an output is missing")));
            }
            let kind = parts.first().map_or(FLOAT, |part| part.element_type());
            zeros(&arrangement.shape(), kind).map_err(|error| self.failed(&error))
        };
        picks.iter().zip(jobs).map(result).collect()
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        Ok(Box::new(Self {
            bound: Arc::clone(&self.bound),
            device: self.device,
            signature: self.signature.clone(),
            options: run_options(self.signature.name())?,
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            masks: Vec::new(),
        }))
    }
}

/// Zeros in the host's memory; they go to the device with the graph that reads them.
fn zeros(shape: &[usize], element_type: i32) -> ort::Result<Value> {
    let count = shape.iter().product();
    let value = match element_type {
        FLOAT => OrtTensor::uploaded(TensorView { shape, data: DataView::F32(&vec![0.0; count]) })?,
        INT32 => OrtTensor::uploaded(TensorView { shape, data: DataView::I32(&vec![0; count]) })?,
        BOOL => OrtTensor::uploaded(TensorView { shape, data: DataView::Bool(&vec![false; count]) })?,
        _ => OrtTensor::uploaded(TensorView { shape, data: DataView::I64(&vec![0; count]) })?,
    };
    OrtTensor::wrapped(value, Memory::Host)
}

/// Small integers for a graph: `first`, then `rest`.
#[expect(clippy::cast_possible_wrap, reason = "lengths and places in tensors")]
fn signed(first: &[i64], rest: &[usize]) -> Vec<i64> {
    first.iter().copied().chain(rest.iter().map(|&n| n as i64)).collect()
}

fn integers<'a>(shape: &'a [usize], data: &'a [i64]) -> Feed<'a> {
    Feed::Host(TensorView { shape, data: DataView::I64(data) })
}
