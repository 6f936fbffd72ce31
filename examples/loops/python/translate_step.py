"""translate.py with an encoder of one token a call, for runtimes without LSTM and GRU: put yours in place of ONNX Runtime."""

import re, sys, unicodedata
import numpy as np, onnxruntime as ort, yaml
bundle = sys.argv[1]
m = yaml.safe_load(open(f"{bundle}/s2s.yaml", encoding="utf-8"))
if "wiring" not in m:
    sys.exit(f"{bundle} is a classifier, {m['graph']['file']} alone: it has no decoding loop")
if "encoder_step" not in m["graphs"]:
    sys.exit(f"{bundle} has no encoder_step.onnx: export it with --encoder-form step")
options = ort.SessionOptions()
options.add_session_config_entry("session.disable_quant_qdq", "1")  # int8 weights: restore them instead of multiplying in 8 bits.
stepper, decoder = (ort.InferenceSession(f"{bundle}/{m['graphs'][role]['file']}", options) for role in ("encoder_step", "decoder"))
wiring, special, source, target = m["wiring"], m["special_ids"], m["source"], m["target"]
states, memory, step = wiring["states"], wiring.get("memory", []), wiring["encoder_step"]
widths = {tensor.name: tensor.shape[1] for tensor in stepper.get_inputs()}
named = [output.name for output in stepper.get_outputs()]
ids = {symbol: id for id, symbol in enumerate(source["symbols"])}
longest = m.get("decoding", {}).get("max_new_tokens") or target["longest"] + 1
steps = {"lowercase": str.lower, "trim": str.strip, "collapse_whitespace": lambda text: re.sub(r"\s+", " ", text)}

def tokens(row, side):  # Ids as the graphs take them: int64, or one-hot rows.
    return np.array([row]) if m["io"] == "ids" else np.eye(len(side["symbols"]), dtype=np.float32)[[row]]

def encode(row):  # What the encoder gives, by its names: states begin as zeros, each call reads a token.
    state, columns = {wire["step_input"]: np.zeros((1, widths[wire["step_input"]]), np.float32) for wire in step["states"]}, []
    for token in row:
        columns.append(dict(zip(named, stepper.run(named, {step["input"]: tokens([token], source), **state}))))
        state = {wire["step_input"]: columns[-1][wire["step_output"]] for wire in step["states"]}
    last = {wire["encoder_output"]: columns[-1][wire["step_output"]] for wire in step["last"]}
    return last | {wire["encoder_output"]: np.stack([column[wire["step_output"]] for column in columns], axis=1) for wire in step.get("memory", [])}

def translate(text):
    for step in source["normalisation"]:
        text = steps[step](text) if step in steps else unicodedata.normalize(step.upper(), text)
    row = [ids.get(unit, special["unk"]) for unit in (text if source["unit"] == "character" else text.split())]
    if not row:
        return ""
    found = encode(row)
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
