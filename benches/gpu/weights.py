"""Takes a large model apart, so that it can be carried to a machine by its outline alone, and makes it again there.

    python3 weights.py outline FOLDER OUT   needs onnx; OUT has everything of FOLDER but the large weights
    python3 weights.py fill OUT             needs numpy; gives OUT random weights of the same spread

Speed does not depend on what the weights are, and both devices then have the same ones.
"""

import json
import shutil
import sys
from pathlib import Path

LARGE = 1024


def outline(folder, out):
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    out.mkdir(parents=True, exist_ok=True)
    recipe = {}
    for file in folder.iterdir():
        if file.suffix != ".onnx" and ".onnx" not in file.name and file.is_file():
            shutil.copy(file, out / file.name)
    for file in sorted(folder.glob("*_model.onnx")):
        model = onnx.load(file)
        data = f"{file.name}_data"
        spreads = {t.name: float(onnx.numpy_helper.to_array(t).std()) for t in model.graph.initializer if t.data_type == 1}
        convert_model_to_external_data(model, all_tensors_to_one_file=True, location=data, size_threshold=LARGE)
        onnx.save(model, out / file.name)
        model = onnx.load(out / file.name, load_external_data=False)
        parts, kept = [], {}
        for tensor in model.graph.initializer:
            place = {entry.key: entry.value for entry in tensor.external_data}
            if not place:
                continue
            where, length = int(place.get("offset", 0)), int(place["length"])
            if tensor.data_type == 1:
                parts.append([where, length, spreads[tensor.name]])
            else:
                # Integers mean something.
                with open(out / data, "rb") as bytes_of:
                    bytes_of.seek(where)
                    kept[where] = bytes_of.read(length).hex()
        recipe[data] = {"size": (out / data).stat().st_size, "parts": parts, "kept": kept}
        (out / data).unlink()
    (out / "weights.json").write_text(json.dumps(recipe))


def fill(out):
    import numpy

    for name, recipe in json.loads((out / "weights.json").read_text()).items():
        with open(out / name, "wb") as data:
            data.truncate(recipe["size"])
            for where, length, spread in recipe["parts"]:
                # What two graphs share is the same in both: it has the same length and spread.
                random = numpy.random.default_rng([length, int(spread * 1e9)])
                data.seek(where)
                data.write((random.standard_normal(length // 4, dtype=numpy.float32) * spread).tobytes())
            for where, bytes_of in recipe["kept"].items():
                data.seek(int(where))
                data.write(bytes.fromhex(bytes_of))


if __name__ == "__main__":
    what, *folders = sys.argv[1:] or [""]
    if what == "outline" and len(folders) == 2:
        outline(*map(Path, folders))
    elif what == "fill" and len(folders) == 1:
        fill(*map(Path, folders))
    else:
        sys.exit(__doc__)
