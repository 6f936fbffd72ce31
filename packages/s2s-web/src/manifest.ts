/** What a bundle says about itself, and what of it this package can do. */
import { S2sError } from "./errors.js";
import type { Value } from "./yaml.js";

/** A state that each decoder step renews. */
export interface StateWire {
  encoder_output?: string;
  zeros?: number[];
  empty?: number[];
  decoder_input: string;
  decoder_output: string;
}

/** What the decoder reads at every step as the encoder gave it. */
export interface MemoryWire {
  encoder_output: string;
  decoder_input: string;
}

/** One side's symbols. */
export interface Side {
  unit: "character" | "token";
  normalisation: string[];
  longest: number;
  symbols: string[];
}

/** The parts of `s2s.yaml` that decoding needs. */
export interface Manifest {
  name: string;
  io: "ids" | "one-hot";
  graphs: { [role: string]: { file: string } };
  wiring: {
    encoder_input: string;
    source_start?: number;
    source_end?: number;
    decoder_input: string;
    decoder_output: string;
    output: "logits" | "log_probabilities" | "probabilities";
    states: StateWire[];
    memory: MemoryWire[];
    attention?: string;
  };
  special_ids: { pad: number; start: number; end: number; unk: number };
  decoding: { [key: string]: unknown };
  source: Side;
  target: Side;
}

/** Holds a document against what is needed, so that nothing is found out in the middle of a decode. */
export function check(value: Value): Manifest {
  const wrong = (what: string, help?: string): never => {
    throw new S2sError("bundle", `s2s.yaml: ${what}`, help);
  };
  if (value === null || typeof value !== "object" || Array.isArray(value)) wrong("this is no manifest");
  const manifest = value as unknown as Manifest & { format_version?: unknown };
  if (!String(manifest.format_version ?? "").startsWith("1.")) wrong("format_version is not 1.x", "update s2s-web");
  if (manifest.graphs?.["encoder"]?.file === undefined || manifest.graphs["decoder"]?.file === undefined || !manifest.wiring) {
    wrong("there are no encoder and decoder", "bundles of classifiers are not decoded");
  }
  manifest.io ??= "ids";
  if (manifest.io !== "ids") wrong(`io is ${manifest.io}`, "export with --io ids");
  const wiring = manifest.wiring as Manifest["wiring"] & { [key: string]: unknown };
  for (const key of ["encoder_mask", "encoder_lengths", "decoder_mask", "decoder_prefix"]) {
    if (wiring[key] !== undefined && wiring[key] !== false) wrong(`wiring.${key} is not known here`, "s2s serve-local decodes this bundle");
  }
  wiring.states ??= [];
  wiring.memory ??= [];
  wiring.output ??= "logits";
  for (const state of wiring.states) {
    if (state.empty !== undefined) wrong(`the state ${state.decoder_input} grows`, "s2s serve-local decodes this bundle");
  }
  for (const key of ["source", "target"] as const) {
    const side = manifest[key];
    if (!Array.isArray(side?.symbols) || !["character", "token"].includes(side.unit)) {
      wrong(`${key} has no list of symbols`, "tokenisers of other kinds run in s2s serve-local");
    }
    side.normalisation ??= [];
    side.longest ??= 0;
  }
  manifest.special_ids ??= { pad: 0, start: 1, end: 2, unk: 3 };
  manifest.decoding ??= {};
  return manifest;
}
