//! The two engines of `s2s-runtime`, served as `serve.py` describes: `engine_runner tract` or `engine_runner
//! ort`.

use std::path::Path;

use s2s_runtime::bundle::graph_beside_weights;
use s2s_runtime::engine::graph::{DataView, Tensor, TensorView};
use s2s_runtime::engine::{EngineKind, available, load_graph};

mod protocol;
use protocol::{Run, Values, missing, serve};

fn main() -> std::io::Result<()> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let kind = wanted.parse::<EngineKind>().map_err(|e| std::io::Error::other(e.to_string()))?;
    let report = available().into_iter().find(|engine| engine.name == kind.as_str());
    let Some(report) = report else { return missing("not compiled in") };
    if let Some(problem) = report.problem {
        return missing(&problem);
    }
    serve(&report.version.unwrap_or_default(), |_, path, inputs, outputs| {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        // As bundles are opened: with the weights that lie in files beside the graph.
        let (model, _) = graph_beside_weights(Path::new(path), "the graph").map_err(|e| e.to_string())?;
        let bytes = model.bytes();
        let mut graph = load_graph(kind, path, bytes, &inputs, &outputs).map_err(|e| e.to_string())?;
        let run: Run = Box::new(move |feed| {
            let views: Vec<TensorView<'_>> = feed
                .iter()
                .map(|(shape, values)| TensorView {
                    shape,
                    data: match values {
                        Values::Ints(ids) => DataView::I64(ids),
                        Values::Int32s(values) => DataView::I32(values),
                        Values::Floats(values) => DataView::F32(values),
                    },
                })
                .collect();
            let mut given: Vec<Tensor> = Vec::new();
            graph.run(&views, &mut given).map_err(|e| e.to_string())?;
            Ok(given.into_iter().map(|tensor| (tensor.shape, tensor.data)).collect())
        });
        Ok(run)
    })
}
