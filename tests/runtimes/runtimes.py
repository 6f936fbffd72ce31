"""Which runtimes there are, what each needs, and how its process is started."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RUNNERS = HERE / "runners"
CACHE = ROOT / "target" / "runtimes"


class Missing(Exception):
    """A runtime cannot be installed or started here; says what is missing."""


@dataclass(frozen=True)
class Runtime:
    """One runtime."""

    name: str
    title: str
    # How its process is made: `python`, `node`, `web`, `engine` (through s2s-runtime) or `rust` (a crate of its own).
    kind: str
    runner: str = ""
    # Python packages of an environment of its own; none: the one that runs this program.
    packages: tuple = ()
    # The newest Python that has wheels.
    newest_python: tuple = ()
    # Part of the quick half.
    quick: bool = False
    # Compiled for fixed sizes: as few of them as possible.
    pinned: bool = False
    # A compiler, which takes its time: one variant of each kind.
    few: bool = False
    environment: dict = field(default_factory=dict)

    def install(self, say):
        """Installs what the runtime needs and gives the command of its process with its environment."""
        # A panic of a runner in Rust says what it is in one line.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0", **self.environment}
        if self.kind == "python":
            return [self.python(say), str(RUNNERS / "serve.py"), str(RUNNERS / self.runner)], environment
        if self.kind in ("node", "web"):
            return [need("node"), str(RUNNERS / self.runner)], {**environment, **self.node(say)}
        if self.kind == "engine":
            program = ROOT / "target" / "release" / "examples" / "engine_runner"
            if not program.exists():
                raise Missing("target/release/examples/engine_runner: cargo build --release --workspace --examples")
            return [str(program), self.runner], {**environment, **library()}
        return [self.rust(say), self.runner], environment

    def python(self, say):
        return venv(self.name, self.packages, self.newest_python, say) if self.packages else sys.executable

    def node(self, say):
        folder = CACHE / "node"
        need("npm")
        environment = {"NODE_PATH": str(folder / "node_modules")}
        if self.kind == "web":
            names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
            environment["CHROMIUM"] = os.environ.get("CHROMIUM") or need(*names)
        stamp, wanted = folder / "installed.json", (HERE / "package-lock.json").read_text()
        if not (stamp.exists() and stamp.read_text() == wanted):
            packages = json.loads((HERE / "package.json").read_text())["dependencies"]
            say(f"installing {', '.join(f'{name}@{version}' for name, version in packages.items())}")
            folder.mkdir(parents=True, exist_ok=True)
            for file in ("package.json", "package-lock.json"):
                shutil.copyfile(HERE / file, folder / file)
            # The CPU library lies in the package; its script would fetch those of other processors.
            run([need("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)
            stamp.write_text(wanted)
        return environment

    def rust(self, say):
        project = RUNNERS / "rust"
        program = CACHE / "rust" / "release" / "s2s-foreign-runtimes"
        say("building the runner of rten and candle")
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", project / "Cargo.toml", "--target-dir", CACHE / "rust"]
        run(command, environment={**os.environ, "PROTOC": protoc(say)})
        return str(program)


RUNTIMES = [
    Runtime("onnxruntime", "ONNX Runtime", "python", "run_onnxruntime.py", quick=True),
    Runtime("onnxruntime-2023", "ONNX Runtime of 2023", "python", "run_onnxruntime.py", ("onnxruntime==1.15.1", "numpy==1.26.4"), (3, 11)),
    Runtime("onnxruntime-rust", "ONNX Runtime, Rust (ort)", "engine", "ort", quick=True),
    Runtime("onnxruntime-node", "ONNX Runtime, Node", "node", "node.cjs", quick=True),
    Runtime("onnxruntime-web", "ONNX Runtime, WASM in Chromium", "web", "web.cjs", quick=True),
    Runtime("reference", "ONNX reference evaluator", "python", "run_reference.py", quick=True),
    Runtime("tract", "tract", "engine", "tract", quick=True),
    Runtime("rten", "rten", "rust", "rten"),
    Runtime("candle", "candle-onnx", "rust", "candle"),
    Runtime("openvino", "OpenVINO", "python", "run_openvino.py", ("openvino==2026.4.1",)),
    Runtime("mnn", "MNN", "python", "run_mnn.py", ("MNN==3.6.1", "numpy==2.4.6")),
    Runtime("iree", "IREE", "python", "run_iree.py", ("iree-base-compiler==3.13.0", "iree-base-runtime==3.13.0", "onnx==1.23.2"), few=True),
    Runtime("opencv", "OpenCV", "python", "run_opencv.py", ("opencv-python-headless==5.0.0.93", "numpy==2.4.6")),
    Runtime("emx-onnx-cgen", "emx-onnx-cgen (C)", "python", "run_emx.py", ("emx-onnx-cgen==1.4.0", "onnx==1.23.2"), pinned=True, few=True),
    Runtime("tvm", "Apache TVM", "python", "run_tvm.py", ("apache-tvm==0.27.0.post1", "onnx==1.23.2"), pinned=True, few=True),
    Runtime("tinygrad", "tinygrad", "python", "run_tinygrad.py", ("tinygrad==0.14.0", "numpy==2.4.6"), pinned=True, few=True),
    Runtime("litert", "LiteRT through onnx2tf", "python", "run_litert.py", ("onnx2tf==1.29.24",), pinned=True, few=True),
    Runtime("ncnn", "ncnn through pnnx", "python", "run_ncnn.py", ("ncnn==1.0.20261020", "pnnx==20261020", "onnx==1.23.2", "numpy==2.4.6"), pinned=True, few=True),
    Runtime("onnx2torch", "onnx2torch", "python", "run_onnx2torch.py", ("onnx2torch==1.5.15", "torch==2.8.0", "torchvision==0.23.0"), few=True),
    Runtime("jaxonnxruntime", "jaxonnxruntime", "python", "run_jaxonnxruntime.py", ("jaxonnxruntime==0.3.0", "onnx==1.23.2", "absl-py==2.3.1")),
]


def library():
    """Where the crate ort finds ONNX Runtime: the library of this Python's package, if nothing else is said."""
    import onnxruntime

    found = [path for path in sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.*")) if ".so" in path.name or ".dylib" in path.name]
    return {"ORT_DYLIB_PATH": os.environ.get("ORT_DYLIB_PATH") or str(found[0])} if found else {}


def venv(name, packages, newest, say):
    """The Python of an environment with these packages."""
    folder = CACHE / "venvs" / name
    stamp, wanted = folder / "packages.txt", "\n".join(packages)
    python = folder / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == wanted):
        base = find_python(newest)
        say(f"installing {', '.join(packages)}")
        shutil.rmtree(folder, ignore_errors=True)
        run([base, "-m", "venv", folder])
        run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", *packages])
        stamp.write_text(wanted)
    return str(python)


def protoc(say):
    """The compiler of protocol buffers, which building candle-onnx needs; a Python package has one too."""
    found = shutil.which("protoc")
    if found is None:
        python = venv("protoc", ("grpcio-tools==1.76.0",), (), say)
        script = CACHE / "venvs" / "protoc" / "bin" / "protoc"
        script.write_text(f'#!/bin/sh\nexec "{python}" -m grpc_tools.protoc "$@"\n')
        script.chmod(0o755)
        found = str(script)
    return found


def need(*names):
    """The first of these programs that is here."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise Missing(f"{names[0]} is not on the PATH")
    return found


def find_python(newest):
    """A Python for a new environment, no newer than `newest`."""
    if not newest or sys.version_info[:2] <= newest:
        return sys.executable
    for minor in range(newest[1], 7, -1):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return found
    raise Missing(f"no Python up to {'.'.join(map(str, newest))}, the newest with wheels")


def run(command, cwd=None, environment=None):
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"{' '.join(map(str, command))} failed: {' '.join((done.stderr or done.stdout).split())[-400:]}")
