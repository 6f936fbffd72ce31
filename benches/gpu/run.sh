#!/usr/bin/env bash
# What a GPU brings: benches/gpu/run.sh S2S OUT BUNDLE...
#
# For each bundle: the same characters from the processor and from CUDA, then the bare decoder step and sentences a second at
# each batch size in tract, ONNX Runtime on the processor, ONNX Runtime on CUDA, and PyTorch on CUDA. Everything that is printed
# is kept in OUT. ORT_DYLIB_PATH names an ONNX Runtime with the CUDA provider; docs/gpu.md says how to get one.
#   S2S_TEXTS_CUDA=N       texts that are compared (default 500)
#   S2S_BATCHES=1,64,...   batch sizes
#   S2S_BENCH_SECONDS=N    of measuring, for each engine and batch size (default 2)
set -uo pipefail
s2s=$1 out=$2; shift 2
here=$(cd "$(dirname "$0")" && pwd)
batches=${S2S_BATCHES:-1,64,512,4096} seconds=${S2S_BENCH_SECONDS:-2}
mkdir -p "$out"
{ nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; nproc; grep -m1 'model name' /proc/cpuinfo; } >"$out/machine.txt" 2>&1
"$s2s" doctor >"$out/doctor.txt" 2>&1
for bundle in "$@"; do
  name=$(basename "$bundle")
  python3 - "$bundle" "${S2S_TEXTS_CUDA:-500}" >"$out/texts.txt" <<'P'
import random, sys, yaml
manifest = yaml.safe_load(open(f"{sys.argv[1]}/s2s.yaml", encoding="utf-8"))
symbols = [s for s in manifest["source"]["symbols"][4:] if len(s) == 1 and s.strip()]
draw = random.Random(1)
for _ in range(int(sys.argv[2])):
    print("".join(draw.choice(symbols) for _ in range(draw.randint(3, 25))))
P
  for device in cpu cuda; do
    /usr/bin/env time -p "$s2s" translate "$bundle" --engine ort --device $device --unknown unk <"$out/texts.txt" >"$out/$name.$device.txt" 2>"$out/$name.$device.err"
    echo "$name translate $device: exit $?" >>"$out/translate.txt"
  done
  if cmp -s "$out/$name.cpu.txt" "$out/$name.cuda.txt"; then
    echo "$name: $(wc -l <"$out/$name.cpu.txt") texts equal on cpu and cuda" >>"$out/translate.txt"
  elif [ "$(wc -l <"$out/$name.cpu.txt")" != "$(wc -l <"$out/$name.cuda.txt")" ]; then
    echo "$name: not compared, see $name.cpu.err and $name.cuda.err" >>"$out/translate.txt"
  else
    echo "$name: $(diff "$out/$name.cpu.txt" "$out/$name.cuda.txt" | grep -c '^>') texts differ between cpu and cuda" >>"$out/translate.txt"
  fi
  bench() { "$s2s" bench "$bundle" --json --seconds "$seconds" "$@" 2>>"$out/bench.err" | sed "s/^/$name /" >>"$out/bench.jsonl"; }
  bench --engine tract,ort --batch "${S2S_CPU_BATCHES:-1,64}"
  bench --engine ort --device cuda --batch "$batches"
  python3 "$here/pytorch_step.py" "$bundle" --batch "$batches" --seconds "$seconds" 2>>"$out/bench.err" | sed "s/^/$name /" >>"$out/bench.jsonl"
done
cat "$out/machine.txt" "$out/doctor.txt" "$out/translate.txt"
