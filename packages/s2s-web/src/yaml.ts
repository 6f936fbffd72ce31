/**
 * The YAML of manifests, as s2s writes them: block mappings and sequences, lists in brackets over several lines, plain and quoted
 * scalars. A manifest that somebody wrote in more of YAML wants a whole parser, see `LoadOptions.parseYaml`.
 */
import { S2sError } from "./errors.js";

/** A value of the document. */
export type Value = string | number | boolean | null | Value[] | { [key: string]: Value };

interface Line {
  indent: number;
  text: string;
  number: number;
}

const NUMBER = /^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$/;
const KEY = /^("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s"'[{&*!|>%@`#-][^:#]*?|-[^\s:]+):(?:\s+(.*))?$/;

/** Reads a document. */
export function parse(text: string): Value {
  const lines: Line[] = [];
  const rows = text.split(/\r?\n/);
  for (let at = 0; at < rows.length; at++) {
    const row = rows[at]!;
    const trimmed = row.trim();
    if (trimmed === "" || trimmed.startsWith("#") || trimmed === "---") continue;
    const line = { indent: row.length - row.trimStart().length, text: trimmed, number: at + 1 };
    // A list in brackets may go on over lines.
    while (depth(line.text) > 0) {
      const next = rows[++at];
      if (next === undefined) fail(line, "a bracket is not closed");
      line.text += ` ${next!.trim()}`;
    }
    lines.push(line);
  }
  const reader = { lines, at: 0 };
  const value = block(reader, lines[0]?.indent ?? 0);
  if (reader.at < lines.length) fail(lines[reader.at]!, "this does not belong to what stands before it");
  return value;
}

function fail(line: Line, what: string): never {
  throw new S2sError(
    "bundle",
    `s2s.yaml, line ${line.number}: ${what}`,
    "give `parseYaml`, for example `load` of js-yaml, for manifests that s2s has not written",
  );
}

/** Brackets that are open at the end of a line. */
function depth(text: string): number {
  let open = 0;
  let quote = "";
  for (let at = 0; at < text.length; at++) {
    const c = text[at]!;
    if (quote !== "") {
      if (c === "\\" && quote === '"') at++;
      else if (c === quote) quote = "";
    } else if ((c === '"' || c === "'") && /[\s,[{:]/.test(text[at - 1] ?? " ")) quote = c;
    else if (c === "[" || c === "{") open += open > 0 || /[\s:,-]/.test(text[at - 1] ?? " ") ? 1 : 0;
    else if ((c === "]" || c === "}") && open > 0) open--;
  }
  return open;
}

function block(reader: { lines: Line[]; at: number }, least: number): Value {
  const first = reader.lines[reader.at];
  if (first === undefined || first.indent < least) return null;
  const { indent } = first;
  if (first.text === "-" || first.text.startsWith("- ")) {
    const list: Value[] = [];
    for (let line; (line = reader.lines[reader.at]) && line.indent === indent && /^-( |$)/.test(line.text); ) {
      const rest = line.text.slice(1).trimStart();
      if (rest === "") {
        reader.at++;
        list.push(block(reader, indent + 1));
      } else if (KEY.test(rest) || /^-( |$)/.test(rest)) {
        // A mapping or a list begins behind the dash, and goes on below, as far in.
        line.indent += line.text.length - rest.length;
        line.text = rest;
        list.push(block(reader, line.indent));
      } else {
        reader.at++;
        list.push(scalar(rest, line));
      }
    }
    return list;
  }
  if (!KEY.test(first.text)) {
    reader.at++;
    return scalar(first.text, first);
  }
  const mapping: { [key: string]: Value } = {};
  for (let line; (line = reader.lines[reader.at]) && line.indent === indent; ) {
    const found = KEY.exec(line.text);
    if (found === null) {
      // A sequence may stand as far left as its key; anything else here is none of the mapping's.
      break;
    }
    reader.at++;
    const key = String(found[1]!.startsWith('"') || found[1]!.startsWith("'") ? scalar(found[1]!, line) : found[1]);
    const rest = found[2];
    const next = reader.lines[reader.at];
    let value: Value;
    if (rest !== undefined && rest !== "") value = scalar(rest, line);
    else if (next && next.indent === indent && /^-( |$)/.test(next.text)) value = block(reader, indent);
    else value = block(reader, indent + 1);
    Object.defineProperty(mapping, key, { value, enumerable: true, configurable: true, writable: true });
  }
  return mapping;
}

function scalar(text: string, line: Line): Value {
  const reader = { text, at: 0 };
  const value = flow(reader, line);
  const rest = text.slice(reader.at).trim();
  if (rest !== "" && !rest.startsWith("#")) fail(line, `${JSON.stringify(rest)} is not understood here`);
  return value;
}

/** A scalar or a list or mapping in brackets. */
function flow(reader: { text: string; at: number }, line: Line, inside = false): Value {
  const skip = () => {
    while (/\s/.test(reader.text[reader.at] ?? "")) reader.at++;
  };
  skip();
  const c = reader.text[reader.at] ?? "";
  if (c === "[" || c === "{") {
    reader.at++;
    const close = c === "[" ? "]" : "}";
    const list: Value[] = [];
    const mapping: { [key: string]: Value } = {};
    for (;;) {
      skip();
      if (reader.text[reader.at] === close) {
        reader.at++;
        return c === "[" ? list : mapping;
      }
      const value = flow(reader, line, true);
      skip();
      if (c === "[") list.push(value);
      else {
        if (reader.text[reader.at] !== ":") fail(line, "a value is missing");
        reader.at++;
        Object.defineProperty(mapping, String(value), { value: flow(reader, line, true), enumerable: true, configurable: true });
        skip();
      }
      if (reader.text[reader.at] === ",") reader.at++;
      else if (reader.text[reader.at] !== close) fail(line, "a comma or a bracket is missing");
    }
  }
  if (c === '"') {
    const end = /^"(?:[^"\\]|\\.)*"/.exec(reader.text.slice(reader.at))?.[0];
    if (end === undefined) fail(line, "a quote is not closed");
    reader.at += end!.length;
    return unescape(end!, line);
  }
  if (c === "'") {
    const end = /^'(?:[^']|'')*'/.exec(reader.text.slice(reader.at))?.[0];
    if (end === undefined) fail(line, "a quote is not closed");
    reader.at += end!.length;
    return end!.slice(1, -1).replaceAll("''", "'");
  }
  if (/[&*!|>%@`]/.test(c)) fail(line, `${JSON.stringify(c)} begins a form that is not read here`);
  const plain = (inside ? /^[^,\]}:#]*(?::(?=\S)[^,\]}:#]*)*/ : /^(?:[^#]|(?<=\S)#)*/).exec(reader.text.slice(reader.at))![0];
  reader.at += plain.length;
  const word = plain.trim();
  if (word === "" || word === "null" || word === "~") return null;
  if (word === "true" || word === "false") return word === "true";
  return NUMBER.test(word) ? Number(word) : word;
}

/** A text in double quotes; YAML's escapes beyond JSON's are `\xNN`, `\UNNNNNNNN` and some letters. */
function unescape(quoted: string, line: Line): string {
  const letters: { [letter: string]: string } = {
    "0": "\0", a: "\x07", b: "\b", t: "\t", n: "\n", v: "\v", f: "\f", r: "\r", e: "\x1b",
    " ": " ", '"': '"', "/": "/", "\\": "\\", N: "\x85", _: "\xa0", L: "\u2028", P: "\u2029",
  };
  return quoted.slice(1, -1).replace(/\\(x..|u.{4}|U.{8}|.)/gsu, (_, escape: string) => {
    if (escape.length === 1) return letters[escape] ?? fail(line, `\\${escape} is no escape`);
    const code = Number.parseInt(escape.slice(1), 16);
    return Number.isNaN(code) ? fail(line, `\\${escape} is no escape`) : String.fromCodePoint(code);
  });
}
