//! Other runtimes than the two engines: each in a process of its own, which answers requests on stdin.
//!
//! The programs are those of `tests/runtimes/runners`, carried in the binary and written to a temporary
//! folder. Python ones run in `S2S_PYTHON` or the first Python on the PATH, JavaScript ones in Node with the
//! packages of `node_modules` in the current folder or `NODE_PATH`. The protocol is described in `serve.py`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use s2s_runtime::engine::graph::{self, DataView, Feed, Graph, Tensor, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::error::{Error, ErrorKind, Result, guess};

/// The longest that a runtime may take for one answer; the first call of some compiles the graph.
const LIMIT: Duration = Duration::from_secs(300);

macro_rules! program {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../tests/runtimes/runners/", $name)))
    };
}

/// The programs that runners share.
const SHARED: [(&str, &str); 2] = [program!("serve.py"), program!("ort_js.js")];

/// A runtime that verification can drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// As flags and reports have it.
    pub name: &'static str,
    /// The command that installs it.
    pub install: &'static str,
    /// Whether verification fails where it is not installed; else that is only reported.
    pub required: bool,
    program: (&'static str, &'static str),
}

impl Runtime {
    /// Lists every runtime that can be driven.
    pub const ALL: [Self; 8] = [
        Self {
            name: "onnxruntime",
            install: "pip install onnxruntime numpy",
            required: false,
            program: program!("run_onnxruntime.py"),
        },
        Self {
            name: "reference",
            install: "pip install onnx numpy",
            required: false,
            program: program!("run_reference.py"),
        },
        Self {
            name: "openvino",
            install: "pip install openvino",
            required: false,
            program: program!("run_openvino.py"),
        },
        Self {
            name: "mnn",
            install: "pip install MNN numpy",
            required: false,
            program: program!("run_mnn.py"),
        },
        Self {
            name: "iree",
            install: "pip install iree-base-compiler iree-base-runtime onnx",
            required: false,
            program: program!("run_iree.py"),
        },
        Self {
            name: "opencv",
            install: "pip install opencv-python-headless",
            required: false,
            program: program!("run_opencv.py"),
        },
        Self {
            name: "onnxruntime-node",
            install: "npm install onnxruntime-node",
            required: false,
            program: program!("node.cjs"),
        },
        Self {
            name: "onnxruntime-web",
            install: "npm install onnxruntime-web, and Chromium",
            required: false,
            program: program!("web.cjs"),
        },
    ];

    /// The runtime of this name, which is then required, or with `all` all of them, of which none is.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an unknown name.
    pub fn parse(name: &str) -> Result<Vec<Self>> {
        if name == "all" {
            return Ok(Self::ALL.to_vec());
        }
        Self::ALL
            .iter()
            .find(|runtime| runtime.name == name)
            .map(|&runtime| vec![Self { required: true, ..runtime }])
            .ok_or_else(|| {
                let names = Self::ALL.iter().map(|runtime| runtime.name).chain(["all"]);
                Error::new(ErrorKind::Usage, format!("`{name}` is not a runtime that s2s can drive"))
                    .help(guess(name, "known runtimes", names))
            })
    }

    /// Starts its process.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] with the command that installs it, if it is not there.
    pub(super) fn start(self) -> Result<Process> {
        let missing =
            |why: &str| Error::new(ErrorKind::Engine, format!("not installed ({why}): {}", self.install));
        let folder = tempfile::Builder::new()
            .prefix("s2s-runtime-")
            .tempdir()
            .map_err(|e| Error::io(std::env::temp_dir(), e))?;
        for (file, text) in SHARED.into_iter().chain([self.program]) {
            let path = folder.path().join(file);
            std::fs::write(&path, text).map_err(|e| Error::io(path, e))?;
        }
        let python = self.program.0.ends_with(".py");
        let interpreters = match std::env::var_os("S2S_PYTHON") {
            _ if !python => vec!["node".into()],
            Some(python) if !python.is_empty() => vec![python],
            _ => vec!["python3".into(), "python".into()],
        };
        let shared = python.then(|| folder.path().join("serve.py"));
        let packages = std::env::var_os("NODE_PATH")
            .or_else(|| Some(std::env::current_dir().ok()?.join("node_modules").into()));
        let spawn = |interpreter: &std::ffi::OsString| {
            let mut command = Command::new(interpreter);
            command
                .args(&shared)
                .arg(folder.path().join(self.program.0))
                .current_dir(&folder)
                .env("OMP_NUM_THREADS", "1");
            command.envs(packages.iter().map(|packages| ("NODE_PATH", packages)));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
        };
        let started = interpreters.iter().map(spawn).find(Result::is_ok).transpose();
        let names =
            || interpreters.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(" or ");
        let Ok(Some(mut child)) = started else {
            return Err(missing(&format!("no {} on the PATH", names())));
        };
        let (sender, answers) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
        }
        let mut link = Link { requests: child.stdin.take(), child, answers, graphs: 0, folder };
        let hello = link.answer().map_err(|error| missing(error.message()))?;
        if let Some(why) = hello["missing"].as_str() {
            return Err(missing(why));
        }
        let version = hello["version"].as_str().map(str::to_owned);
        Ok(Process { version, link: Arc::new(Mutex::new(link)) })
    }
}

/// A runtime whose process has started.
pub(super) struct Process {
    /// The version that the runtime gives, where it gives one.
    pub(super) version: Option<String>,
    link: Arc<Mutex<Link>>,
}

impl Process {
    /// Loads a graph: its name for errors, the ONNX bytes, its inputs and outputs.
    pub(super) fn load(
        &self,
        name: &str,
        model: &[u8],
        inputs: &[&str],
        outputs: &[&str],
    ) -> Result<Box<dyn Graph>> {
        let mut link = lock(&self.link);
        link.graphs += 1;
        let number = link.graphs.to_string();
        let path = link.folder.path().join(format!("{number}.onnx"));
        std::fs::write(&path, model).map_err(|e| Error::io(&path, e))?;
        let request =
            json!({ "load": number, "path": path.to_string_lossy(), "inputs": inputs, "outputs": outputs });
        link.ask(&request).map_err(|error| error.in_graph(name, None))?;
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        Ok(Box::new(ForeignGraph {
            name: name.to_owned(),
            number,
            inputs,
            outputs: outputs.len(),
            link: Arc::clone(&self.link),
        }))
    }
}

/// The pipes of a process; it ends when they close.
struct Link {
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
    child: Child,
    graphs: usize,
    folder: TempDir,
}

fn lock(link: &Mutex<Link>) -> std::sync::MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    fn ask(&mut self, request: &Value) -> Result<Value> {
        if let Some(requests) = &mut self.requests {
            // A process that has died is found when its answer is awaited.
            let _ = writeln!(requests, "{request}").and_then(|()| requests.flush());
        }
        let answer = self.answer()?;
        match answer["error"].as_str() {
            Some(message) => Err(Error::new(ErrorKind::Engine, message)),
            None => Ok(answer),
        }
    }

    fn answer(&mut self) -> Result<Value> {
        let line = self.answers.recv_timeout(LIMIT).map_err(|error| {
            let _ = self.child.kill();
            Error::new(
                ErrorKind::Engine,
                match error {
                    RecvTimeoutError::Timeout => format!("no answer within {} s", LIMIT.as_secs()),
                    RecvTimeoutError::Disconnected => match self.child.wait() {
                        Ok(status) => format!("its process ended: {status}"),
                        Err(error) => format!("its process ended: {error}"),
                    },
                },
            )
        })?;
        serde_json::from_str(&line)
            .map_err(|e| Error::new(ErrorKind::Engine, "it answers what is no JSON").caused_by(e))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.requests.take());
        // Most end by themselves then; Chromium is killed by its program, which needs a moment.
        for _ in 0..50 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A graph that another process has loaded.
struct ForeignGraph {
    name: String,
    number: String,
    inputs: Vec<String>,
    outputs: usize,
    link: Arc<Mutex<Link>>,
}

impl Graph for ForeignGraph {
    fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<graph::Value>) -> Result<()> {
        let inputs = inputs.iter().map(Feed::on_host).collect::<Result<Vec<_>>>()?;
        let feed: serde_json::Map<String, Value> = self
            .inputs
            .iter()
            .zip(&inputs)
            .map(|(name, TensorView { shape, data })| {
                let (kind, hex) = match data {
                    DataView::I64(ids) => ("int64", to_hex(ids.iter().flat_map(|id| id.to_le_bytes()))),
                    DataView::I32(ids) => ("int32", to_hex(ids.iter().flat_map(|id| id.to_le_bytes()))),
                    DataView::F32(values) => ("float32", to_hex(values.iter().flat_map(|x| x.to_le_bytes()))),
                    DataView::Bool(values) => ("bool", to_hex(values.iter().map(|&x| u8::from(x)))),
                };
                (name.clone(), json!({ "type": kind, "shape": shape, "hex": hex }))
            })
            .collect();
        let answer = lock(&self.link)
            .ask(&json!({ "run": self.number, "feed": feed }))
            .map_err(|error| error.in_graph(&self.name, None))?;
        let found: Option<Vec<Tensor>> =
            answer["outputs"].as_array().into_iter().flatten().map(tensor).collect();
        match found {
            Some(found) if found.len() == self.outputs => {
                *outputs = found.into_iter().map(|tensor| Arc::new(tensor) as _).collect();
                Ok(())
            }
            _ => {
                let message = format!("it gives something else than {} tensors of floats", self.outputs);
                Err(Error::new(ErrorKind::Engine, message).in_graph(&self.name, None))
            }
        }
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        let (name, number, inputs) = (self.name.clone(), self.number.clone(), self.inputs.clone());
        Ok(Box::new(Self { name, number, inputs, outputs: self.outputs, link: Arc::clone(&self.link) }))
    }
}

fn to_hex(bytes: impl Iterator<Item = u8>) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn tensor(value: &Value) -> Option<Tensor> {
    let shape: Option<Vec<usize>> =
        value["shape"].as_array()?.iter().map(|size| usize::try_from(size.as_u64()?).ok()).collect();
    let digits: Option<Vec<u8>> =
        value["hex"].as_str()?.chars().map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
    let bytes: Vec<u8> = digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let data: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Some(Tensor { shape: shape?, data })
        .filter(|tensor| tensor.shape.iter().product::<usize>() == tensor.data.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn floats_survive_the_way_through_hexadecimal_digits() {
        let values = [0.0f32, -1.5, f32::MIN_POSITIVE, 3.4e38];
        let hex = to_hex(values.iter().flat_map(|x| x.to_le_bytes()));
        assert_eq!(tensor(&json!({ "shape": [2, 2], "hex": hex })).unwrap().data, values);
        assert!(tensor(&json!({ "shape": [3], "hex": hex })).is_none());
        assert!(tensor(&json!({ "shape": [1], "hex": "0000zz00" })).is_none());
    }

    #[test]
    fn an_unknown_runtime_is_answered_with_the_known_ones() {
        let error = Runtime::parse("openvin").unwrap_err();
        assert!(error.help_text().unwrap().ends_with("did you mean `openvino`?"), "{error}");
        assert_eq!(Runtime::parse("all").unwrap().len(), Runtime::ALL.len());
    }
}
