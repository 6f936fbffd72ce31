// translate.mjs with an encoder of one token a call, for runtimes without LSTM and GRU: put yours in place of ONNX Runtime.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { load } from "js-yaml";
import ort from "onnxruntime-node";

const bundle = process.argv[2];
const { graph, graphs, wiring, special_ids: special, source, target, decoding } = load(readFileSync(`${bundle}/s2s.yaml`, "utf8"));
if (!wiring) {
  console.error(`${bundle} is a classifier, ${graph.file} alone: it has no decoding loop`);
  process.exit(1);
}
if (!graphs.encoder_step) {
  console.error(`${bundle} has no encoder_step.onnx: export it with --encoder-form step`);
  process.exit(1);
}
const { states, memory = [], encoder_step: step } = wiring;
const options = { extra: { session: { disable_quant_qdq: "1" } } }; // int8 weights: restore them instead of multiplying in 8 bits.
const open = (role) => ort.InferenceSession.create(`${bundle}/${graphs[role].file}`, options);
const [stepper, decoder] = [await open("encoder_step"), await open("decoder")];
const widths = Object.fromEntries(stepper.inputMetadata.map(({ name, shape }) => [name, shape[1]]));
const ids = new Map(source.symbols.map((symbol, id) => [symbol, id]));
const longest = decoding?.max_new_tokens ?? target.longest + 1;
const steps = { lowercase: (t) => t.toLowerCase(), trim: (t) => t.trim(), collapse_whitespace: (t) => t.replace(/\s+/gu, " ") };
const zeros = (...axes) => new ort.Tensor(new Float32Array(axes.reduce((a, b) => a * b)), axes);
const tensor = (row) => new ort.Tensor("int64", BigInt64Array.from(row, BigInt), [1, row.length]);

// What the encoder gives, by its names: states begin as zeros, each call reads a token.
async function encode(row) {
  let state = Object.fromEntries(step.states.map((wire) => [wire.step_input, zeros(1, widths[wire.step_input])]));
  const columns = [];
  for (const token of row) {
    const found = await stepper.run({ ...state, [step.input]: tensor([token]) });
    columns.push(found);
    state = Object.fromEntries(step.states.map((wire) => [wire.step_input, found[wire.step_output]]));
  }
  const stack = (tensors) => new ort.Tensor(Float32Array.from(tensors.flatMap((t) => [...t.data])), [1, tensors.length, ...tensors[0].dims.slice(1)]);
  const last = step.last.map((wire) => [wire.encoder_output, columns.at(-1)[wire.step_output]]);
  const memory = (step.memory ?? []).map((wire) => [wire.encoder_output, stack(columns.map((column) => column[wire.step_output]))]);
  return Object.fromEntries([...last, ...memory]);
}

async function translate(text) {
  for (const step of source.normalisation) text = steps[step]?.(text) ?? text.normalize(step.toUpperCase());
  const units = source.unit === "character" ? [...text] : text.split(/\s+/u).filter(Boolean);
  if (units.length === 0) return "";
  const found = await encode(units.map((unit) => ids.get(unit) ?? special.unk));
  const first = (wire) => (wire.zeros ? zeros(1, ...wire.zeros) : found[wire.encoder_output]);
  const feed = Object.fromEntries([...states, ...memory].map((wire) => [wire.decoder_input, first(wire)]));
  const output = [];
  for (let token = special.start; output.length < longest; ) {
    const found = await decoder.run({ ...feed, [wiring.decoder_input]: tensor([token]) });
    const scores = found[wiring.decoder_output].data;
    scores[special.pad] = scores[special.start] = -Infinity;
    token = scores.indexOf(scores.reduce((a, b) => Math.max(a, b)));
    if (token === special.end) break;
    output.push(token === special.unk ? "\ufffd" : target.symbols[token]);
    for (const wire of states) feed[wire.decoder_input] = found[wire.decoder_output];
  }
  return output.join(target.unit === "character" ? "" : " ");
}

for await (const line of createInterface({ input: process.stdin })) console.log(await translate(line));
