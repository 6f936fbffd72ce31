//! A graph where a device has it run.

use std::sync::Arc;

use super::accelerated::Accelerated;
use super::host::OrtGraph;
use crate::checked::SharedModel;
use crate::engine::deadline::Deadline;
use crate::engine::device::Device;
use crate::engine::graph::Graph;
use crate::error::Result;
use crate::graph_info::GraphInfo;

/// Loads a graph.
///
/// - `info`: its outside; `inputs`, `outputs`: what is fed and read, in order.
///
/// # Errors
/// [`ErrorKind::Engine`](crate::ErrorKind::Engine) if the library is missing, the device does not work here or
/// the graph cannot be loaded; [`ErrorKind::Bundle`](crate::ErrorKind::Bundle) if its outside does not fit.
pub(in crate::engine) fn load(
    device: Device,
    name: &str,
    model: Arc<SharedModel>,
    info: &GraphInfo,
    inputs: &[&str],
    outputs: &[&str],
    deadline: &Deadline,
) -> Result<Box<dyn Graph>> {
    Ok(match device {
        Device::Cuda | Device::Simulated => {
            let load = |bytes: &[u8]| Accelerated::load(device, name, bytes, info, inputs, outputs, deadline);
            Box::new(model.with_bytes(load)?)
        }
        Device::Cpu | Device::Auto => Box::new(OrtGraph::load(name, model, info, inputs, outputs, deadline)?),
    })
}
