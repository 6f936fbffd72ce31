"""What a GPU brings, as one table: tract, ONNX Runtime on the processor and with CUDA, and PyTorch with CUDA.

    python3 run.py S2S OUT BUNDLE... [--batches 1,8,64,512,4096] [--device cuda] [--minutes 12]

For each bundle it first holds the texts of CUDA against those of the processor, greedily and with 4 beams, then measures the
bare decoder step and sentences a second at each batch size. Everything goes to OUT: table.md, and what each program printed.
It stops measuring when its time is over, and the table says `-` for what was not reached; small batches and CUDA come first.
ORT_DYLIB_PATH names an ONNX Runtime with the CUDA provider; docs/gpu.md says how to get one. A folder that Optimum exported is a
bundle too; its weights may be any (weights.py makes some): --new-tokens texts of that length are then decoded.
Needs Python 3.9 with PyYAML, and PyTorch for its part. `--device simulated` runs all of it on a processor, to see that it works.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
# What a processor does in the time that there is: larger batches are no faster there.
LARGEST_ON_PROCESSOR = 64


class Run:
    def __init__(self, args):
        self.args, self.begin, self.rows, self.equal = args, time.monotonic(), {}, []
        self.out = args.out
        self.out.mkdir(parents=True, exist_ok=True)

    def left(self):
        return self.args.minutes * 60 - (time.monotonic() - self.begin)

    def call(self, command, name, stdin=None, limit=None):
        """The program's standard output, or nothing if it failed or there is no time for it."""
        seconds = min(limit or 180, self.left())
        if seconds < 5:
            return None
        with open(self.out / f"{name}.err", "w") as errors:
            try:
                done = subprocess.run([str(part) for part in command], stdin=stdin, stdout=subprocess.PIPE, stderr=errors, timeout=seconds, text=True)
            except subprocess.TimeoutExpired:
                errors.write(f"stopped after {seconds:.0f} s\n")
                return None
        (self.out / f"{name}.out").write_text(done.stdout, encoding="utf-8")
        if done.returncode != 0:
            print(f"{name}: exit {done.returncode}, see {name}.err", file=sys.stderr)
            return None
        return done.stdout

    def texts(self, bundle, count):
        """A file of random texts that the bundle can read."""
        path = self.out / f"{bundle.name}.{count}.txt"
        manifest = bundle / "s2s.yaml"
        draw = random.Random(count)
        if manifest.exists():
            symbols = yaml.safe_load(manifest.read_text(encoding="utf-8"))["source"]["symbols"][4:]
            symbols = [s for s in symbols if len(s) == 1 and s.strip()]
            lines = ["".join(draw.choice(symbols) for _ in range(draw.randint(3, 25))) for _ in range(count)]
        else:
            words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst"]
            lines = [" ".join(draw.choice(words) for _ in range(draw.randint(2, 8))) for _ in range(count)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def options(self, bundle, beams):
        """Decoding options: texts of one length where the weights were never trained, because they would not end."""
        options = {"num_beams": beams}
        if not (bundle / "s2s.yaml").exists():
            options.update(min_new_tokens=self.args.new_tokens, max_new_tokens=self.args.new_tokens)
        path = self.out / f"{bundle.name}.{beams}.yaml"
        path.write_text(yaml.safe_dump(options))
        return path

    def compare(self, bundle):
        file = self.texts(bundle, self.args.texts)
        for beams in (1, 4):
            said = []
            for device in ("cpu", self.args.device):
                command = [self.args.s2s, "translate", bundle, "--engine", "ort", "--device", device, "--unknown", "unk", "--workers", "2"]
                command += ["--decoding", self.options(bundle, beams)]
                with open(file) as stdin:
                    said.append(self.call(command, f"{bundle.name}.translate.{device}.{beams}", stdin))
            what = f"{bundle.name}, {'greedy' if beams == 1 else f'{beams} beams'}"
            if None in said:
                self.equal.append(f"{what}: not compared")
                continue
            pairs = list(zip(said[0].splitlines(), said[1].splitlines()))
            same = sum(a == b for a, b in pairs)
            self.equal.append(f"{what}: {same} of {len(pairs)} texts are the same on {self.args.device} and cpu")

    def bench(self, bundle, engine, device, batch):
        count = max(64, 3 * batch)
        command = [self.args.s2s, "bench", bundle, "--json", "--engine", engine, "--device", device, "--batch", batch, "--seconds", self.args.seconds]
        command += ["--texts", self.texts(bundle, count), "--decoding", self.options(bundle, 1)]
        printed = self.call(command, f"{bundle.name}.bench.{engine}.{device}.{batch}", limit=120)
        for line in (printed or "").splitlines():
            report = json.loads(line)
            self.note(bundle, f"{engine}, {device}", batch, report["step_us_p50"], report["sentences_per_second"])

    def pytorch(self, bundle, batches):
        device = "cuda" if self.args.device == "cuda" else "cpu"
        command = [sys.executable, HERE / "pytorch_step.py", bundle, "--batch", ",".join(map(str, batches)), "--device", device]
        command += ["--seconds", self.args.seconds]
        for line in (self.call(command, f"{bundle.name}.pytorch") or "").splitlines():
            report = json.loads(line)
            self.note(bundle, f"PyTorch, {device}", report["batch"], report["step_us_p50"], report["sentences_per_second"])

    def note(self, bundle, who, batch, step, sentences):
        self.rows.setdefault(bundle.name, {}).setdefault(who, {})[batch] = f"{step:,.0f} ({sentences:,.0f})"
        self.write()

    def write(self):
        batches = self.args.batches
        lines = ["| microseconds a step (sentences/s) | " + " | ".join(f"batch {b}" if b == batches[0] else str(b) for b in batches) + " |"]
        lines.append("|---|" + "---:|" * len(batches))
        for bundle, rows in self.rows.items():
            for who, cells in rows.items():
                lines.append(f"| {bundle}: {who} | " + " | ".join(cells.get(batch, "-") for batch in batches) + " |")
        (self.out / "table.md").write_text("\n".join(lines + [""] + self.equal) + "\n", encoding="utf-8")

    def all(self):
        args = self.args
        for name, command in (
            ("machine", ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]),
            ("processor", ["grep", "-m1", "model name", "/proc/cpuinfo"]),
            ("doctor", [args.s2s, "doctor"]),
        ):
            try:
                print(self.call(command, name) or "", end="")
            except FileNotFoundError:
                print(f"{command[0]} is not there")
        for bundle in args.bundles:
            self.compare(bundle)
            self.write()
        # What is wanted most comes first, in case the time does not suffice for all.
        for bundle in args.bundles:
            for batch in args.batches:
                self.bench(bundle, "ort", args.device, batch)
            self.pytorch(bundle, args.batches)
        for bundle in args.bundles:
            for batch in (batch for batch in args.batches if batch <= LARGEST_ON_PROCESSOR):
                for engine in ("tract", "ort"):
                    self.bench(bundle, engine, "cpu", batch)
        print((self.out / "table.md").read_text(encoding="utf-8"))
        print(f"{args.minutes * 60 - self.left():.0f} s in all")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("s2s", type=lambda path: Path(path).resolve())
    parser.add_argument("out", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 64, 512, 4096])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring, for each engine and batch size")
    parser.add_argument("--minutes", type=float, default=12.0, help="after which nothing more is begun")
    parser.add_argument("--texts", type=int, default=300, help="texts that are compared")
    parser.add_argument("--new-tokens", type=int, default=32, help="length of texts where weights are random")
    args = parser.parse_args()
    Run(args).all()


if __name__ == "__main__":
    main()
