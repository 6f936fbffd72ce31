//! A graph where a device has it run.

use std::sync::Arc;

use super::accelerated::Accelerated;
use super::host::OrtGraph;
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
    model: Arc<Vec<u8>>,
    info: &GraphInfo,
    inputs: &[&str],
    outputs: &[&str],
    deadline: &Deadline,
) -> Result<Box<dyn Graph>> {
    Ok(match device {
        Device::Cuda | Device::Simulated => {
            Box::new(Accelerated::load(device, name, &model, info, inputs, outputs, deadline)?)
        }
        Device::Cpu | Device::Auto => Box::new(OrtGraph::load(name, model, info, inputs, outputs, deadline)?),
    })
}
