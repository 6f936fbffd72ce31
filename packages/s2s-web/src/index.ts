/**
 * Decodes the bundles of s2s in the browser.
 *
 * ```ts
 * import { Translator } from "s2s-web";
 *
 * const translator = await Translator.load("models/dates");
 * await translator.translate("April 3, 1999"); // "1999-04-03"
 * ```
 */
import type { InferenceSession } from "onnxruntime-web";

import { S2sError } from "./errors.js";
import { Graphs, type Ort } from "./graphs.js";
import { check, type Manifest } from "./manifest.js";
import { Remote } from "./remote.js";
import { Search, settings, type DecodingOptions, type Hypothesis, type Settings } from "./search.js";
import { Vocabulary } from "./vocabulary.js";
import { parse, type Value } from "./yaml.js";

export { S2sError, type Kind } from "./errors.js";
export type { Ort } from "./graphs.js";
export type { Manifest } from "./manifest.js";
export type { DecodingOptions } from "./search.js";

/** How a bundle is loaded. */
export interface LoadOptions {
  /** The build of onnxruntime-web to use, for example `await import("onnxruntime-web/webgpu")`; by default "onnxruntime-web". */
  ort?: Ort;
  /** Options of its sessions, for example `{ executionProviders: ["webgpu"] }`. */
  session?: InferenceSession.SessionOptions;
  /** Takes translate.onnx, all of greedy decoding in one call; the bundle must have been exported with --fused. */
  fused?: boolean;
  /** Reads the manifest; only manifests that s2s has not written need another parser, such as `load` of js-yaml. */
  parseYaml?: (text: string) => unknown;
  /** Fetches a file; by default `fetch`. */
  fetch?: (url: string) => Promise<Response>;
}

/** How a bundle is loaded in a worker. */
export interface WorkerOptions {
  /** A worker that runs `s2s-web/worker`, or its address; by default the file beside this one. */
  worker?: Worker | URL | string;
  /** The address of the build of onnxruntime-web that the worker imports. */
  ort: URL | string;
  /** Options of its sessions. */
  session?: InferenceSession.SessionOptions;
  /** As in `LoadOptions`. */
  fused?: boolean;
}

/** One of several translations of a text. */
export interface Alternative {
  /** The text. */
  text: string;
  /** log p, divided as `length_penalty_type` says; 0 from the one graph of --fused, which does not say. */
  score: number;
  /** Why it ended: END came, it is as long as it may be, no token was left, or it was cancelled. */
  finish: Hypothesis["finish"];
}

/** What translates: here, or in a worker. */
export interface Translates {
  /** Translates a text, or texts one after another. */
  translate(text: string, options?: DecodingOptions): Promise<string>;
  translate(texts: readonly string[], options?: DecodingOptions): Promise<string[]>;
  /** The `n` best translations, the best first, of as many beams. */
  nBest(text: string, n: number, options?: DecodingOptions): Promise<Alternative[]>;
  /** A translation piece by piece while it is decoded; beams give all of it at once. Leaving the loop stops decoding. */
  stream(text: string, options?: DecodingOptions): AsyncGenerator<string, void, undefined>;
  /** Gives the memory back. */
  release(): Promise<void>;
}

/** Translates with a bundle. Calls may overlap: they run one after another. */
export class Translator implements Translates {
  private readonly vocabulary: Vocabulary;
  private turn: Promise<unknown> = Promise.resolve();

  private constructor(
    /** What the bundle says about itself. */
    readonly manifest: Manifest,
    private readonly graphs: Graphs,
    private readonly fused: boolean,
  ) {
    this.vocabulary = new Vocabulary(manifest);
  }

  /**
   * Loads the bundle whose `s2s.yaml` lies at `url`.
   *
   * @throws S2sError of the kind `network` if a file cannot be fetched, `bundle` if the bundle is none or wants what is not here.
   */
  static async load(url: string | URL, options: LoadOptions = {}): Promise<Translator> {
    const base = new URL(String(url).replace(/\/*$/, "/"), globalThis.location?.href);
    const get = options.fetch ?? ((address: string) => fetch(address));
    const read = async (file: string): Promise<Uint8Array> => {
      if (!/^[\w.-]+$/.test(file) || file.startsWith(".")) throw new S2sError("bundle", `${file} is no name of a file of a bundle`);
      const address = new URL(file, base).href;
      const response = await get(address).catch((error: unknown) => {
        throw new S2sError("network", `${address}: ${error instanceof Error ? error.message : String(error)}`);
      });
      if (!response.ok) throw new S2sError("network", `${address}: status ${response.status}`, "give the folder that has s2s.yaml");
      return new Uint8Array(await response.arrayBuffer());
    };
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await read("s2s.yaml"));
    const manifest = check((options.parseYaml ?? parse)(text) as Value);
    const ort = options.ort ?? (await import("onnxruntime-web"));
    const roles = options.fused ? ["translate"] : ["encoder", "decoder"];
    const graphs = await Graphs.load(ort, manifest, read, roles, options.session ?? {});
    return new Translator(manifest, graphs, options.fused ?? false);
  }

  /** Loads the bundle in a worker, so that the page does not wait for the engine. */
  static async inWorker(url: string | URL, options: WorkerOptions): Promise<Translates> {
    return Remote.load(new URL(String(url).replace(/\/*$/, "/"), globalThis.location?.href).href, options);
  }

  translate(text: string, options?: DecodingOptions): Promise<string>;
  translate(texts: readonly string[], options?: DecodingOptions): Promise<string[]>;
  async translate(texts: string | readonly string[], options: DecodingOptions = {}): Promise<string | string[]> {
    if (typeof texts === "string") return (await this.all(texts, options))[0]?.text ?? "";
    const translations: string[] = [];
    for (const text of texts) translations.push((await this.all(text, options))[0]?.text ?? "");
    return translations;
  }

  async nBest(text: string, n: number, options: DecodingOptions = {}): Promise<Alternative[]> {
    return this.all(text, { num_beams: n, ...options, num_return_sequences: n });
  }

  async *stream(text: string, options: DecodingOptions = {}): AsyncGenerator<string, void, undefined> {
    const settings = this.settings(options);
    if (settings.num_beams > 1 || this.fused) {
      const whole = (await this.all(text, options))[0]?.text ?? "";
      if (whole !== "") yield whole;
      return;
    }
    const release = await this.wait();
    try {
      let given = "";
      for await (const search of this.steps(this.vocabulary.encode(text, settings.unknown), settings)) {
        const ids = search.rows[0]?.ids ?? search.outputs()[0]!.ids;
        const now = this.vocabulary.decode(ids);
        if (now.length > given.length) yield now.slice(given.length);
        given = now;
      }
    } finally {
      release();
    }
  }

  async release(): Promise<void> {
    const release = await this.wait();
    await this.graphs.release().finally(release);
  }

  private settings(options: DecodingOptions): Settings {
    return settings(this.manifest.target.longest, this.manifest.decoding, options as { [key: string]: unknown });
  }

  /** Waits until nobody else runs the sessions, which take one call at a time; gives what lets the next one in. */
  private async wait(): Promise<() => void> {
    const before = this.turn;
    let release = (): void => {};
    this.turn = new Promise<void>((resolve) => (release = resolve));
    await before;
    return release;
  }

  private async all(text: string, options: DecodingOptions): Promise<Alternative[]> {
    const settings = this.settings(options);
    const ids = this.vocabulary.encode(text, settings.unknown);
    if (ids.length === 0) return [];
    const release = await this.wait();
    try {
      if (this.fused) {
        if (settings.num_beams > 1) throw new S2sError("config", "`num_beams`: the fused graph is greedy", "load without `fused`");
        const found = await this.graphs.translate(ids, settings.max_new_tokens);
        return [{ text: this.vocabulary.decode(found.ids), score: 0, finish: found.ended ? "eos" : "length" }];
      }
      let outputs: Hypothesis[] = [];
      for await (const search of this.steps(ids, settings)) outputs = search.outputs();
      return outputs.map(({ ids, score, finish }) => ({ text: this.vocabulary.decode(ids), score, finish }));
    } finally {
      release();
    }
  }

  /** The search after each step. */
  private async *steps(ids: number[], settings: Settings): AsyncGenerator<Search, void, undefined> {
    if (ids.length === 0) return;
    const search = new Search(settings, this.manifest.special_ids);
    const state = await this.graphs.encode(ids);
    for (let rows = 1; rows > 0; ) {
      const { logits, symbols } = await this.graphs.step(search.lastTokens(), state);
      const order = search.advance(logits, symbols);
      if (order.length > 0) this.graphs.keep(order, state, rows);
      rows = order.length;
      yield search;
    }
  }
}
