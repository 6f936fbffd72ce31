/** The graphs of a bundle in onnxruntime-web. */
import type { InferenceSession, Tensor } from "onnxruntime-web";

import { S2sError } from "./errors.js";
import type { Manifest } from "./manifest.js";

/** onnxruntime-web, whichever build of it. */
export type Ort = typeof import("onnxruntime-web");

/** What is carried from step to step: tensors by the decoder's inputs, rows first. */
export type State = { [input: string]: Tensor };

/** Encoder and decoder, or the one graph for all of greedy decoding. */
export class Graphs {
  private constructor(
    private readonly ort: Ort,
    private readonly manifest: Manifest,
    private readonly sessions: { [role: string]: InferenceSession },
  ) {}

  /** Loads the graphs of these roles. */
  static async load(ort: Ort, manifest: Manifest, read: (file: string) => Promise<Uint8Array>, roles: string[], options: InferenceSession.SessionOptions): Promise<Graphs> {
    // Weights of 8 bits are restored and not multiplied in 8 bits, which is another model.
    const extra = { ...options.extra, session: { disable_quant_qdq: "1", ...(options.extra?.["session"] as object | undefined) } };
    const sessions: { [role: string]: InferenceSession } = {};
    for (const role of roles) {
      const file = manifest.graphs[role]?.file;
      if (file === undefined) throw new S2sError("bundle", `there is no ${role} graph`, "export with --fused");
      try {
        sessions[role] = await ort.InferenceSession.create(await read(file), { ...options, extra });
      } catch (error) {
        if (error instanceof S2sError) throw error;
        throw new S2sError("engine", `${file}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    return new Graphs(ort, manifest, sessions);
  }

  private ids(rows: readonly number[], shape: number[]): Tensor {
    return new this.ort.Tensor("int64", BigInt64Array.from(rows, BigInt), shape);
  }

  /** All of greedy decoding in one call. */
  async translate(ids: readonly number[], most: number): Promise<{ ids: number[]; ended: boolean }> {
    const feed = { encoder_input: this.ids(ids, [1, ids.length]), max_new_tokens: this.ids([most], []) };
    const found = await this.sessions["translate"]!.run(feed);
    const length = Number((found["generated_lengths"]!.data as BigInt64Array)[0]);
    const all = Array.from((found["generated_ids"]!.data as BigInt64Array).subarray(0, length), Number);
    const ended = all.at(-1) === this.manifest.special_ids.end;
    return { ids: ended ? all.slice(0, -1) : all, ended };
  }

  /** Encodes one source. */
  async encode(ids: readonly number[]): Promise<State> {
    const { wiring } = this.manifest;
    const found = await this.sessions["encoder"]!.run({ [wiring.encoder_input]: this.ids(ids, [1, ids.length]) });
    const state: State = {};
    for (const wire of wiring.memory) state[wire.decoder_input] = found[wire.encoder_output]!;
    for (const wire of wiring.states) {
      if (wire.zeros !== undefined) {
        const size = wire.zeros.reduce((a, b) => a * b, 1);
        state[wire.decoder_input] = new this.ort.Tensor("float32", new Float32Array(size), [1, ...wire.zeros]);
      } else state[wire.decoder_input] = found[wire.encoder_output!]!;
    }
    return state;
  }

  /** One step of all rows: their logits, f32 (rows, symbols), which the caller may change; the states are renewed in place. */
  async step(tokens: readonly number[], state: State): Promise<{ logits: Float32Array; symbols: number }> {
    const { wiring } = this.manifest;
    const found = await this.sessions["decoder"]!.run({ ...state, [wiring.decoder_input]: this.ids(tokens, [tokens.length, 1]) });
    for (const wire of wiring.states) state[wire.decoder_input] = found[wire.decoder_output]!;
    const output = found[wiring.decoder_output]!;
    const logits = output.data as Float32Array;
    if (wiring.output === "probabilities") for (let at = 0; at < logits.length; at++) logits[at] = Math.log(logits[at]!);
    return { logits, symbols: output.dims.at(-1)! };
  }

  /** Gives every row that goes on the state of the row that it comes from. */
  keep(order: readonly number[], state: State, rows: number): void {
    if (order.length === rows && order.every((from, to) => from === to)) return;
    const { states, memory } = this.manifest.wiring;
    // All rows are of one text: what the encoder gave changes with their number alone.
    const changing = order.length === rows ? states : [...states, ...memory];
    for (const { decoder_input: name } of changing) {
      const tensor = state[name]!;
      const data = tensor.data as Float32Array;
      const size = data.length / rows;
      const kept = new Float32Array(size * order.length);
      order.forEach((from, to) => kept.set(data.subarray(from * size, (from + 1) * size), to * size));
      state[name] = new this.ort.Tensor("float32", kept, [order.length, ...tensor.dims.slice(1)]);
    }
  }

  /** Gives the memory back. */
  async release(): Promise<void> {
    for (const session of Object.values(this.sessions)) await session.release();
  }
}
