import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { load } from "js-yaml";

import { parse } from "../dist/yaml.js";
import { ROOT } from "./bundles.mjs";

test("a manifest that s2s wrote is read as js-yaml reads it", () => {
  const text = readFileSync(join(ROOT, "exported/dates/s2s.yaml"), "utf8");
  assert.deepEqual(parse(text), load(text));
});

for (const text of [
  "a: 1\nb: -2.5e-3\nc: true\nd: null\ne:\nf: 'it''s'\ng: \"\\u00e9\\x41\\U0001F600\\n\\\"\\\\\"",
  "list:\n- 1\n- two\n- a: b\n  c: [d, 'e', \"f,]\", {g: h}]\n- - 1\n",
  "deep:\n  deeper:\n    deepest: value # a comment\n  next: a:b c#d\n",
  "url: http://x/y\nlist: [\n  \"a\", \"#\", \"]\",\n  \"b\",\n  ]\n\"quoted key\": 1\n'and': 2",
  "empty: []\nnone: {}\n- x: 1".split("\n").slice(0, 2).join("\n"),
  "# nothing but\n---\na: ~\n",
]) {
  test(`YAML of this form too: ${JSON.stringify(text)}`, () => assert.deepEqual(parse(text), load(text)));
}

for (const text of ["a: &x 1", "a: |\n  text", "a: [1, 2", "a: 'open", "a: 1\n   b: 2", "a: [1] 2", "- 1\nb: 2"]) {
  test(`what is not understood is refused with its line: ${JSON.stringify(text)}`, () => {
    assert.throws(() => parse(text), { name: "S2sError", kind: "bundle", message: /^s2s\.yaml, line \d+: .*parseYaml/ });
  });
}
