// The bundles of the tests, made by the program `s2s` of the last release build, and what it says to texts.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const S2S = process.env.S2S_PROGRAM ?? join(ROOT, "target/release/s2s");

export function s2s(args, input = "") {
  return execFileSync(S2S, args, { input, encoding: "utf8", cwd: ROOT, maxBuffer: 1 << 28, stdio: ["pipe", "pipe", "ignore"] });
}

const TINY = "training.epochs=3 model.hidden=24 data.task.train=1500 data.task.dev=40".split(" ");
const KINDS = {
  plain: [["model.cell=lstm"], ["--fused"]],
  gru: [["model.cell=gru", "model.layers=2", "model.input=one_hot"], ["--dtype", "int8", "--max-loss", "1"]],
  attention: [["model.attention=general", "model.bidirectional=true"], ["--dtype", "f16", "--max-loss", "1"]],
  tokens: [["model.attention=dot", "data.source.unit=token", "data.source.normalisation=[lowercase]"], []],
};

/** A folder of bundles, and its removal. */
export function bundles() {
  if (!existsSync(S2S)) throw new Error(`${S2S} is missing: cargo build --release --workspace`);
  const folder = mkdtempSync(join(tmpdir(), "s2s-web-"));
  for (const [name, [model, flags]] of Object.entries(KINDS)) {
    const sets = [...TINY, ...model].flatMap((set) => ["--set", set]);
    s2s(["train", "configs/dates.yaml", ...sets, "-o", join(folder, `${name}.run`), "-q"]);
    s2s(["export", join(folder, `${name}.run`), "-o", join(folder, name), "--random", "2", "-q", ...flags]);
  }
  return { folder, names: Object.keys(KINDS), remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }) };
}

const MONTHS = "January Feb march Apr. May JUNE July aug September Oct Nov. December".split(" ");

/** Texts of many forms, odd ones among them. */
export function texts(count) {
  const odd = ["", "  ", "\u{1d7d9} May 2001", "5\u00a0May\u20032001", "Ａｐｒｉｌ 3, 1999", "日本", "ſ\u0130ß", "5 May\u0085 2001", "\ufeff5 May 2001"];
  const made = Array.from({ length: count - odd.length }, (_, i) => {
    const [d, m, y] = [1 + (i % 28), MONTHS[i % 12], 1950 + ((i * 7) % 149)];
    return [`${m} ${d}, ${y}`, `${d} ${m} ${y}`, `${y}-${1 + (i % 12)}-${d}`, `${d}.${1 + (i % 12)}.${y}`, `the ${d}th of ${m}, ${y % 100}`][i % 5];
  });
  return [...odd, ...made];
}

/** What the program says: the best text of each, or with `n` the best few with their scores. */
export function said(bundle, lines, n) {
  const many = n === undefined ? [] : ["--num-return-sequences", String(n)];
  const rows = s2s(["translate", bundle, "--json", ...many], lines.map((line) => `${line}\n`).join("")).trimEnd().split("\n").map((row) => JSON.parse(row));
  return rows.map((row) => (n === undefined ? row.text : [row, ...row.alternatives].map(({ text, score, finish }) => ({ text, score, finish }))));
}
