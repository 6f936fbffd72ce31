//! A session whose inputs and outputs are bound to memory, so that nothing is copied that need not be.

use std::sync::{Mutex, PoisonError};

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::DynValue;

use super::session::open_session;
use super::tensor::{Memory, OrtTensor};
use crate::engine::device::Device;
use crate::engine::graph::{Feed, Value};
use crate::error::Result;

/// A session that several workers share: a device runs one graph after another anyway, and has the weights
/// once.
pub(super) struct Bound {
    inner: Mutex<Inner>,
    host: MemoryInfo<'static>,
    device: MemoryInfo<'static>,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
}

struct Inner {
    session: Session,
    binding: IoBinding,
}

impl Bound {
    /// Opens `model` on `device`.
    pub(super) fn open(device: Device, name: &str, model: &[u8]) -> Result<Self> {
        let session = open_session(device, name, model)?;
        let cannot = |e: ort::Error| super::session::failure(name, "cannot load this graph", &e.to_string());
        let memory = |of| MemoryInfo::new(of, 0, AllocatorType::Device, MemoryType::Default).map_err(cannot);
        let own = if device == Device::Cuda { AllocationDevice::CUDA } else { AllocationDevice::CPU };
        Ok(Self {
            host: memory(AllocationDevice::CPU)?,
            device: memory(own)?,
            inputs: session.inputs().iter().map(|input| input.name().to_owned()).collect(),
            outputs: session.outputs().iter().map(|output| output.name().to_owned()).collect(),
            inner: Mutex::new(Inner { binding: session.create_binding().map_err(cannot)?, session }),
        })
    }

    /// Runs it.
    ///
    /// - `feeds`: in the order of `inputs`.
    /// - `memory`: where each output shall lie, in the order of `outputs`.
    pub(super) fn run(
        &self,
        feeds: &[Feed<'_>],
        memory: &[Memory],
        options: &RunOptions,
    ) -> ort::Result<Vec<Value>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { session, binding } = &mut *inner;
        let result = self.run_bound(session, binding, feeds, memory, options);
        // What was bound lives no longer than its owners want it, and no output is written to again.
        binding.clear();
        result
    }

    fn run_bound(
        &self,
        session: &mut Session,
        binding: &mut IoBinding,
        feeds: &[Feed<'_>],
        memory: &[Memory],
        options: &RunOptions,
    ) -> ort::Result<Vec<Value>> {
        for (name, feed) in self.inputs.iter().zip(feeds) {
            match feed {
                Feed::Value(value) => {
                    let tensor = OrtTensor::of(value)?;
                    if tensor.memory == Memory::Host {
                        traffic::up(tensor.shape.iter().product());
                    }
                    binding.bind_input(name.as_str(), &tensor.value)?;
                }
                Feed::Host(view) => {
                    traffic::up(view.data.described().1);
                    binding.bind_input(name.as_str(), &OrtTensor::uploaded(*view)?)?;
                }
            }
        }
        for (name, memory) in self.outputs.iter().zip(memory) {
            let place = if *memory == Memory::Host { &self.host } else { &self.device };
            binding.bind_output_to_device(name.as_str(), place)?;
        }
        let results = session.run_binding_with_options(binding, options)?;
        let results: Vec<DynValue> = results.into_iter().map(|(_, value)| value).collect();
        if results.len() != memory.len() {
            return Err(ort::Error::new("an output is missing"));
        }
        let mut values = Vec::with_capacity(results.len());
        for (value, &memory) in results.into_iter().zip(memory) {
            let value = OrtTensor::wrapped(value, memory)?;
            if memory == Memory::Host {
                traffic::down(value.shape().iter().product());
            }
            values.push(value);
        }
        Ok(values)
    }
}

/// Values that go to a device and come from it, counted in tests.
pub(super) mod traffic {
    #[cfg(test)]
    thread_local! {
        /// Up and down, by this thread.
        static VALUES: std::cell::Cell<[usize; 2]> = const { std::cell::Cell::new([0; 2]) };
    }

    pub(super) fn up(_values: usize) {
        #[cfg(test)]
        VALUES.set([VALUES.get()[0] + _values, VALUES.get()[1]]);
    }

    pub(super) fn down(_values: usize) {
        #[cfg(test)]
        VALUES.set([VALUES.get()[0], VALUES.get()[1] + _values]);
    }

    /// What went up and down since this was asked last.
    #[cfg(test)]
    pub(in super::super) fn take() -> [usize; 2] {
        VALUES.replace([0; 2])
    }
}
