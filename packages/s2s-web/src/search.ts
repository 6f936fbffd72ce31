/** Which tokens come next: the rules of s2s, which are those of `generate()` in transformers. */
import { S2sError } from "./errors.js";

/** Decoding options, by the names that the bundle's `decoding` has. */
export interface DecodingOptions {
  /** Beams; 1 is greedy. */
  num_beams?: number;
  /** Translations of a text, at most the beams. */
  num_return_sequences?: number;
  /** Longest output in tokens, END counted. */
  max_new_tokens?: number;
  /** END cannot come before this many tokens. */
  min_new_tokens?: number;
  /** Above 0 favours long outputs; beams only. */
  length_penalty?: number;
  /** What the sum of log p is divided by: n^a, ((5 + n) / 6)^a, or 1. */
  length_penalty_type?: "avg" | "gnmt" | "none";
  /** Whether enough hypotheses end a search, or none can become better, or only when all are as long as may be. */
  early_stopping?: boolean | "never";
  /** Enough hypotheses are the beams times this. */
  patience?: number;
  /** UNK is never generated. */
  disable_unk?: boolean;
  /** What becomes of source symbols that the model does not know: `unk` (it guesses), `skip` or `error`. */
  unknown?: "unk" | "skip" | "error";
}

/** Checked options. */
export type Settings = Required<DecodingOptions>;

const DEFAULTS: Settings = {
  num_beams: 1,
  num_return_sequences: 1,
  max_new_tokens: 256,
  min_new_tokens: 0,
  length_penalty: 1,
  length_penalty_type: "avg",
  early_stopping: false,
  patience: 1,
  disable_unk: false,
  unknown: "unk",
};
const ALIASES: { [alias: string]: keyof Settings } = {
  beam_size: "num_beams",
  num_hypotheses: "num_return_sequences",
  max_decoding_length: "max_new_tokens",
  min_decoding_length: "min_new_tokens",
};
const HARMLESS = new Set(["max_input_length", "truncate", "time_limit", "seed", "output", "return_scores", "return_attention"]);

/** Lays options over each other, the lowest first, and checks them. */
export function settings(longest: number, ...layers: { [key: string]: unknown }[]): Settings {
  const wrong = (key: string, what: string, help?: string): never => {
    throw new S2sError("config", `\`${key}\`: ${what}`, help);
  };
  const merged: { [key: string]: unknown } = {};
  for (const layer of layers) {
    for (const [typed, value] of Object.entries(layer)) {
      const key = ALIASES[typed] ?? typed;
      if (!(key in DEFAULTS)) {
        if (HARMLESS.has(key)) continue;
        wrong(typed, "this option is not known here", `known are ${Object.keys(DEFAULTS).join(", ")}; s2s serve-local has all`);
      }
      if (value !== undefined && value !== null) merged[key] = value;
    }
  }
  if (longest > 0) merged["max_new_tokens"] ??= Math.max(longest + 1, Number(merged["min_new_tokens"] ?? 0));
  const all = { ...DEFAULTS, ...merged } as Settings;
  const whole = (key: keyof Settings, lowest: number, highest: number) => {
    const value = all[key] as number;
    if (!Number.isInteger(value) || value < lowest || value > highest) wrong(key, `${value} is not between ${lowest} and ${highest}`);
  };
  whole("num_beams", 1, 1024);
  whole("num_return_sequences", 1, 1024);
  whole("max_new_tokens", 1, 1 << 20);
  whole("min_new_tokens", 0, 1 << 20);
  if (all.num_return_sequences > all.num_beams) wrong("num_return_sequences", `${all.num_return_sequences} is more than the ${all.num_beams} beams`);
  if (!(Math.abs(all.length_penalty) <= 6)) wrong("length_penalty", `${all.length_penalty} is not between -6 and 6`);
  if (!(all.patience > 0 && all.patience <= 16)) wrong("patience", `${all.patience} is not above 0 and at most 16`);
  const word = (key: keyof Settings, words: readonly unknown[]) => {
    if (!words.includes(all[key])) wrong(key, `choose ${words.join(", ")}`);
  };
  word("length_penalty_type", ["avg", "gnmt", "none"]);
  word("early_stopping", [true, false, "never"]);
  word("unknown", ["unk", "skip", "error"]);
  return all;
}

/** One output. */
export interface Hypothesis {
  /** Target ids without START and END. */
  ids: number[];
  /** log p by `length_penalty_type`. */
  score: number;
  /** Why it ended. */
  finish: "eos" | "length" | "stop" | "cancelled";
}

interface Row {
  ids: number[];
  sum: number;
}

// Sums are those of f32, as everywhere else.
const f32 = Math.fround;

/** The special ids that a search must know. */
export interface Special {
  pad: number;
  start: number;
  end: number;
  unk: number;
}

/** A search over one text: reads the logits of a step, says which rows go on. Greedy is a search with one beam. */
export class Search {
  rows: Row[] = [{ ids: [], sum: 0 }];
  private readonly finished: Hypothesis[] = [];
  private readonly enough: number;

  constructor(
    private readonly settings: Settings,
    private readonly special: Special,
  ) {
    this.enough = Math.max(Math.round(settings.num_beams * settings.patience), 1);
  }

  /** What the next step reads. */
  lastTokens(): number[] {
    return this.rows.map((row) => row.ids.at(-1) ?? this.special.start);
  }

  /**
   * Reads the logits of all rows, f32 (rows, symbols); gives for each row that goes on the row whose state it takes. None at all:
   * the search is over.
   */
  advance(logits: Float32Array, symbols: number): number[] {
    const { settings, special } = this;
    const generated = this.rows[0]!.ids.length;
    const most = settings.num_beams === 1 ? 1 : 2 * settings.num_beams;
    const best: { sum: number; beam: number; id: number }[] = [];
    this.rows.forEach((row, beam) => {
      const scores = logits.subarray(beam * symbols, (beam + 1) * symbols);
      scores[special.pad] = scores[special.start] = -Infinity;
      if (settings.disable_unk) scores[special.unk] = -Infinity;
      if (generated < settings.min_new_tokens) scores[special.end] = -Infinity;
      const total = logSumExp(scores);
      for (const id of highest(scores, most)) {
        const sum = f32(row.sum + f32(scores[id]! - total));
        // Behind equal ones: they came from an earlier beam, or are a lower id.
        let at = best.length;
        while (at > 0 && best[at - 1]!.sum < sum) at--;
        if (at < most) best.splice(at, 0, { sum, beam, id });
        best.length = Math.min(best.length, most);
      }
    });
    if (best.length === 0) {
      this.end("stop");
      return [];
    }
    const live: typeof best = [];
    for (const [rank, candidate] of best.entries()) {
      if (live.length === settings.num_beams) break;
      if (candidate.id !== special.end) live.push(candidate);
      else if (rank < settings.num_beams) this.finish({ ids: this.rows[candidate.beam]!.ids, sum: candidate.sum }, "eos");
    }
    this.rows = settings.num_beams === 1 && this.finished.length > 0
      ? []
      : live.map(({ sum, beam, id }) => ({ ids: [...this.rows[beam]!.ids, id], sum }));
    if (this.rows.length === 0) return [];
    if (generated + 1 >= settings.max_new_tokens) this.end("length");
    else if (this.isOver(generated + 1)) this.rows = [];
    return this.rows.length === 0 ? [] : live.map(({ beam }) => beam);
  }

  /** Ends what is running. */
  end(finish: Hypothesis["finish"]): void {
    for (const row of this.rows) this.finish(row, finish);
    this.rows = [];
  }

  /** The outputs, the best first. */
  outputs(): Hypothesis[] {
    return this.finished.slice(0, this.settings.num_return_sequences);
  }

  private finish(row: Row, finish: Hypothesis["finish"]): void {
    const n = row.ids.length + (finish === "eos" ? 1 : 0);
    const score = f32(row.sum / this.divisor(n));
    let at = this.finished.length;
    while (at > 0 && this.finished[at - 1]!.score < score) at--;
    this.finished.splice(at, 0, { ids: row.ids, score, finish });
    if (this.settings.num_beams > 1) this.finished.length = Math.min(this.finished.length, this.enough);
  }

  private divisor(n: number): number {
    const { length_penalty: a, length_penalty_type: type } = this.settings;
    if (type === "none") return 1;
    return f32((type === "avg" ? Math.max(n, 1) : f32((5 + Math.max(n, 1)) / 6)) ** a);
  }

  private isOver(generated: number): boolean {
    const { settings } = this;
    if (settings.num_beams === 1 || this.finished.length < this.enough) return false;
    if (settings.early_stopping === true) return true;
    const worst = this.finished.at(-1)!.score;
    const n = settings.early_stopping === "never" && settings.length_penalty > 0 ? settings.max_new_tokens : generated;
    return worst >= f32(this.rows[0]!.sum / this.divisor(n));
  }
}

/** The places of the highest scores above -Infinity, the highest first, of equal ones the lowest id. */
function highest(scores: Float32Array, most: number): number[] {
  const best: number[] = [];
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id]!;
    if (Number.isNaN(score)) throw new S2sError("engine", "the decoder gave logits that are not numbers", "s2s verify tells why");
    if (score === -Infinity || (best.length === most && scores[best[most - 1]!]! >= score)) continue;
    let at = Math.min(best.length, most - 1);
    while (at > 0 && scores[best[at - 1]!]! < score) at--;
    best.splice(at, 0, id);
    best.length = Math.min(best.length, most);
  }
  return best;
}

function logSumExp(scores: Float32Array): number {
  let top = -Infinity;
  for (const score of scores) top = Math.max(top, score);
  let sum = 0;
  for (const score of scores) sum += Math.exp(score - top);
  return f32(top + Math.log(sum));
}
