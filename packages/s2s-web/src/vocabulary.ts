/** Text to ids and back, by the rules of s2s. */
import { S2sError } from "./errors.js";
import type { Manifest, Side } from "./manifest.js";

// Unicode's White_Space, which JavaScript's \s is not: it lacks U+0085 and has U+FEFF.
const SPACE = "[\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const ENDS = new RegExp(`^${SPACE}+|${SPACE}+$`, "gu");
const RUN = new RegExp(`${SPACE}+`, "gu");
/** What an unknown symbol becomes in an output. */
const REPLACEMENT = "\ufffd";

const STEPS: { [step: string]: (text: string) => string } = {
  nfc: (text) => text.normalize("NFC"),
  nfd: (text) => text.normalize("NFD"),
  nfkc: (text) => text.normalize("NFKC"),
  nfkd: (text) => text.normalize("NFKD"),
  lowercase: (text) => text.toLowerCase(),
  trim: (text) => text.replace(ENDS, ""),
  collapse_whitespace: (text) => text.replace(RUN, " "),
};

/** What becomes of source symbols that the model does not know. */
export type Unknown = "unk" | "skip" | "error";

/** Makes ids of sources and texts of outputs. */
export class Vocabulary {
  private readonly ids: Map<string, number>;

  constructor(private readonly manifest: Manifest) {
    const { source } = manifest;
    for (const step of source.normalisation) {
      if (STEPS[step] === undefined) throw new S2sError("bundle", `s2s.yaml: source.normalisation has ${step}`, "update s2s-web");
    }
    this.ids = new Map(source.symbols.map((symbol, id) => [symbol, id]));
  }

  /** The ids of a text as the encoder reads them; none for a text of nothing. */
  encode(text: string, unknown: Unknown): number[] {
    const { source, special_ids: special, wiring } = this.manifest;
    const ids: number[] = [];
    const strange = new Set<string>();
    for (const symbol of split(source, text)) {
      const id = this.ids.get(symbol);
      if (id !== undefined) ids.push(id);
      else if (unknown === "unk") ids.push(special.unk);
      else strange.add(symbol);
    }
    if (unknown === "error" && strange.size > 0) {
      throw new S2sError("input", `symbols that the model does not know: ${[...strange].join(", ")}`, "unknown may be unk or skip");
    }
    if (ids.length > 0) {
      if (wiring.source_start !== undefined) ids.unshift(wiring.source_start);
      if (wiring.source_end !== undefined) ids.push(wiring.source_end);
    }
    return ids;
  }

  /** The text of an output. */
  decode(ids: readonly number[]): string {
    const { target, special_ids: special } = this.manifest;
    const symbols = ids.map((id) => (id === special.unk ? REPLACEMENT : (target.symbols[id] ?? REPLACEMENT)));
    return symbols.join(target.unit === "character" ? "" : " ");
  }
}

function split(side: Side, text: string): string[] {
  for (const step of side.normalisation) text = STEPS[step]!(text);
  // Half of a surrogate pair has no UTF-8, in which the model learnt.
  text = text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, REPLACEMENT);
  return side.unit === "character" ? [...text] : text.split(RUN).filter((symbol) => symbol !== "");
}
