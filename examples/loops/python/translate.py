"""Translates lines with ONNX Runtime alone: python translate.py BUNDLE < texts. Needs pip install onnxruntime numpy pyyaml."""

import re, sys, unicodedata
import numpy as np, onnxruntime as ort, yaml
bundle = sys.argv[1]
m = yaml.safe_load(open(f"{bundle}/s2s.yaml", encoding="utf-8"))
if "wiring" not in m:
    sys.exit(f"{bundle} is a classifier, {m['graph']['file']} alone: it has no decoding loop")
options = ort.SessionOptions()
options.add_session_config_entry("session.disable_quant_qdq", "1")  # int8 weights: restore them instead of multiplying in 8 bits.
encoder, decoder = (ort.InferenceSession(f"{bundle}/{m['graphs'][role]['file']}", options) for role in ("encoder", "decoder"))
wiring, special, source, target = m["wiring"], m["special_ids"], m["source"], m["target"]
states, memory = wiring["states"], wiring.get("memory", [])
named = [output.name for output in encoder.get_outputs()]
ids = {symbol: id for id, symbol in enumerate(source["symbols"])}
longest = m.get("decoding", {}).get("max_new_tokens") or target["longest"] + 1
steps = {"lowercase": str.lower, "trim": str.strip, "collapse_whitespace": lambda text: re.sub(r"\s+", " ", text)}

def tokens(row, side):  # Ids as the graphs take them: int64, or one-hot rows.
    return np.array([row]) if m["io"] == "ids" else np.eye(len(side["symbols"]), dtype=np.float32)[[row]]

def translate(text):
    for step in source["normalisation"]:
        text = steps[step](text) if step in steps else unicodedata.normalize(step.upper(), text)
    row = [ids.get(unit, special["unk"]) for unit in (text if source["unit"] == "character" else text.split())]
    if not row:
        return ""
    found = dict(zip(named, encoder.run(named, {wiring["encoder_input"]: tokens(row, source)})))
    first = lambda wire: np.zeros((1, *wire["zeros"]), np.float32) if "zeros" in wire else found[wire["encoder_output"]]
    feed, token, output = {wire["decoder_input"]: first(wire) for wire in states + memory}, special["start"], []
    while len(output) < longest:
        outputs = [wiring["decoder_output"], *(wire["decoder_output"] for wire in states)]
        scores, *found = decoder.run(outputs, {wiring["decoder_input"]: tokens([token], target), **feed})
        scores[0, 0, [special["pad"], special["start"]]] = -np.inf
        token = int(scores[0, 0].argmax())
        if token == special["end"]:
            break
        output.append("\ufffd" if token == special["unk"] else target["symbols"][token])
        feed.update(zip([wire["decoder_input"] for wire in states], found))
    return ("" if target["unit"] == "character" else " ").join(output)

for line in sys.stdin:
    print(translate(line.rstrip("\n")))
