//! rten, candle and plain tract, served as `serve.py` describes: `s2s-foreign-runtimes rten`, `candle` or `tract`.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor as CandleTensor};
use rten::{Model, NodeId, Value, ValueOrView};
use rten_tensor::prelude::*;
use rten_tensor::Tensor;
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, TValue, Tensor as TractTensor};

#[path = "../../protocol.rs"]
mod protocol;
use protocol::{Run, Values, missing, serve};

fn main() -> std::io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("rten") => serve("0.27.0", rten),
        Some("candle") => serve("0.11.1", candle),
        Some("tract") => serve("0.23.9", tract),
        other => missing(&format!("{other:?} is none of rten, candle and tract")),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn rten(bytes: &[u8], _: &str, inputs: &[String], outputs: &[String]) -> Result<Run, String> {
    let model = Model::load(bytes.to_vec()).map_err(text)?;
    let nodes = |names: &[String]| names.iter().map(|name| model.node_id(name)).collect::<Result<Vec<NodeId>, _>>().map_err(text);
    let (inputs, outputs) = (nodes(inputs)?, nodes(outputs)?);
    Ok(Box::new(move |feed| {
        let fed: Vec<(NodeId, ValueOrView<'_>)> = inputs
            .iter()
            .zip(feed)
            .map(|(&node, (shape, values))| {
                // rten has no int64.
                let value = match values {
                    Values::Ints(ids) => Value::from(Tensor::from_data(&shape, ids.iter().map(|&id| id as i32).collect::<Vec<i32>>())),
                    Values::Int32s(values) => Value::from(Tensor::from_data(&shape, values)),
                    Values::Floats(values) => Value::from(Tensor::from_data(&shape, values)),
                };
                (node, value.into())
            })
            .collect();
        let results = model.run(fed, &outputs, None).map_err(text)?;
        results
            .into_iter()
            .map(|value| {
                let tensor: Tensor<f32> = value.try_into().map_err(|e| format!("{e:?}"))?;
                Ok((tensor.shape().to_vec(), tensor.to_vec()))
            })
            .collect()
    }))
}

fn candle(_: &[u8], path: &str, inputs: &[String], outputs: &[String]) -> Result<Run, String> {
    let model = candle_onnx::read_file(path).map_err(text)?;
    let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
    Ok(Box::new(move |feed| {
        let mut fed = HashMap::new();
        for (name, (shape, values)) in inputs.iter().zip(feed) {
            let tensor = match values {
                Values::Ints(ids) => CandleTensor::from_vec(ids, shape, &Device::Cpu),
                Values::Int32s(values) => CandleTensor::from_vec(values, shape, &Device::Cpu),
                Values::Floats(values) => CandleTensor::from_vec(values, shape, &Device::Cpu),
            };
            fed.insert(name.clone(), tensor.map_err(text)?);
        }
        let results = candle_onnx::simple_eval(&model, fed).map_err(text)?;
        outputs
            .iter()
            .map(|name| {
                let tensor = results.get(name).ok_or_else(|| format!("no output {name}"))?;
                if tensor.dtype() != DType::F32 {
                    return Err(format!("{name} is {:?} instead of f32", tensor.dtype()));
                }
                let values = tensor.flatten_all().and_then(|flat| flat.to_vec1()).map_err(text)?;
                Ok((tensor.dims().to_vec(), values))
            })
            .collect()
    }))
}

/// tract as its own examples have it: the model read from its path, made ready to run, and run. A panic is an answer too.
fn tract(_: &[u8], path: &str, inputs: &[String], outputs: &[String]) -> Result<Run, String> {
    caught(|| {
        let mut model = tract_onnx::onnx().model_for_path(path).map_err(whole)?;
        model.set_input_names(inputs).map_err(whole)?;
        model.select_outputs_by_name(outputs).map_err(whole)?;
        let plan = model.into_optimized().and_then(|model| model.into_runnable()).map_err(whole)?;
        let run: Run = Box::new(move |feed| {
            caught(|| {
                let fed = feed.into_iter().map(|(shape, values)| {
                    let tensor = match values {
                        Values::Ints(ids) => TractTensor::from_shape(&shape, &ids),
                        Values::Int32s(values) => TractTensor::from_shape(&shape, &values),
                        Values::Floats(values) => TractTensor::from_shape(&shape, &values),
                    };
                    tensor.map(TValue::from).map_err(whole)
                });
                let results = plan.run(fed.collect::<Result<_, _>>()?).map_err(whole)?;
                let given = results.iter().map(|tensor| {
                    let values = tensor.to_plain_array_view::<f32>().map_err(whole)?;
                    Ok((values.shape().to_vec(), values.iter().copied().collect()))
                });
                given.collect()
            })
        });
        Ok(run)
    })
}

/// An error with its causes, in one line.
fn whole(error: tract_onnx::prelude::TractError) -> String {
    format!("{error:#}")
}

fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|&said| said.to_owned()));
        Err(format!("panics: {}", said.unwrap_or_default()))
    })
}
