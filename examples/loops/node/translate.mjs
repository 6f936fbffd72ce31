// Translates lines with ONNX Runtime alone: node translate.mjs BUNDLE < texts. Needs npm install onnxruntime-node js-yaml.
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
const { states, memory = [] } = wiring;
const options = { extra: { session: { disable_quant_qdq: "1" } } }; // int8 weights: restore them instead of multiplying in 8 bits.
const open = (role) => ort.InferenceSession.create(`${bundle}/${graphs[role].file}`, options);
const [encoder, decoder] = [await open("encoder"), await open("decoder")];
const ids = new Map(source.symbols.map((symbol, id) => [symbol, id]));
const longest = decoding?.max_new_tokens ?? target.longest + 1;
const steps = { lowercase: (t) => t.toLowerCase(), trim: (t) => t.trim(), collapse_whitespace: (t) => t.replace(/\s+/gu, " ") };
const tensor = (row) => new ort.Tensor("int64", BigInt64Array.from(row, BigInt), [1, row.length]);

async function translate(text) {
  for (const step of source.normalisation) text = steps[step]?.(text) ?? text.normalize(step.toUpperCase());
  const units = source.unit === "character" ? [...text] : text.split(/\s+/u).filter(Boolean);
  if (units.length === 0) return "";
  const found = await encoder.run({ [wiring.encoder_input]: tensor(units.map((unit) => ids.get(unit) ?? special.unk)) });
  const first = ({ zeros, encoder_output }) => (zeros ? new ort.Tensor(new Float32Array(zeros[0]), [1, ...zeros]) : found[encoder_output]);
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
