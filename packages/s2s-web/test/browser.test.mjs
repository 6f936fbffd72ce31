// The package in a headless Chromium, from a real page: `npm run build && CHROMIUM=... node --test test/`.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { bundles, said, texts } from "./bundles.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const ORT = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const CHROMIUM = process.env.CHROMIUM ?? "chromium";
const skip = spawnSync(CHROMIUM, ["--version"]).status === 0 ? false : "no Chromium; CHROMIUM names one";

const all = texts(2000);
const few = [...all.slice(0, 12), "April 3, 1999"];
let made, found, scratch;

/** Opens the page and gives what it reports. */
async function page(folder, names) {
  let settle;
  const reported = new Promise((resolve, reject) => (settle = { resolve, reject }));
  const server = createServer(async (request, response) => {
    const send = (body, type = "application/octet-stream") => response.writeHead(200, { "content-type": type }).end(body);
    const path = decodeURIComponent(request.url.split("?")[0]);
    try {
      if (path === "/") return send(await readFile(join(HERE, "page.html")), TYPES[".html"]);
      if (path === "/work") return send(JSON.stringify({ names, texts: all, few }), "application/json");
      if (path === "/report") {
        let body = "";
        for await (const chunk of request.setEncoding("utf8")) body += chunk;
        settle.resolve(JSON.parse(body));
        return send("");
      }
      const [, first, ...rest] = path.split("/");
      const root = { dist: join(HERE, "../dist"), ort: ORT, bundles: folder }[first];
      send(await readFile(join(root, ...rest)), TYPES[extname(path)]);
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  scratch = mkdtempSync(join(tmpdir(), "s2s-web-profile-"));
  const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", `--user-data-dir=${scratch}`];
  const browser = spawn(CHROMIUM, [...flags, `http://127.0.0.1:${server.address().port}/`], { stdio: "ignore" });
  browser.on("error", settle.reject);
  const limit = setTimeout(() => settle.reject(new Error("the page said nothing within 300 s")), 300_000);
  try {
    const report = await reported;
    assert.equal(report.error, undefined, report.error);
    return report.found;
  } finally {
    clearTimeout(limit);
    browser.kill("SIGKILL");
    await once(browser, "exit");
    server.closeAllConnections();
    server.close();
  }
}

before(async () => {
  if (skip) return;
  made = bundles();
  found = await page(made.folder, made.names);
}, { timeout: 600_000 });

after(() => {
  made?.remove();
  // A dying process of the browser may still write there.
  if (scratch) try { rmSync(scratch, { recursive: true, force: true, maxRetries: 10 }); } catch {}
});

for (const name of ["plain", "gru", "attention", "tokens"]) {
  test(`${name}: 2,000 texts are, character by character, what s2s translate says`, { skip }, (t) => {
    assert.deepEqual(found[name].greedy, said(join(made.folder, name), all));
    t.diagnostic(`loaded in ${found[name].loaded.toFixed(0)} ms, ${(all.length / found[name].seconds).toFixed(0)} texts/s`);
  });
  test(`${name}: the best four are those of s2s translate, with their scores`, { skip }, () => {
    const expected = said(join(made.folder, name), few, 4);
    for (const [at, best] of found[name].best.entries()) {
      // An empty text is not decoded: here it has no translations, there an empty one.
      if (best.length === 0) assert.equal(expected[at][0].text, "");
      else {
        assert.deepEqual(best.map(({ text, finish }) => ({ text, finish })), expected[at].map(({ text, finish }) => ({ text, finish })));
        best.forEach(({ score }, rank) => assert.ok(Math.abs(score - expected[at][rank].score) < 1e-5, `${score} and ${expected[at][rank].score}`));
      }
    }
  });
  test(`${name}: pieces are the whole, and calls may overlap`, { skip }, () => {
    const whole = said(join(made.folder, name), few);
    assert.ok(found[name].streamed.length > 1);
    assert.equal(found[name].streamed.join(""), whole.at(-1));
    assert.deepEqual(found[name].together, whole);
  });
}

test("the one graph of --fused says the same", { skip }, () => {
  assert.deepEqual(found.fused, said(join(made.folder, "plain"), few));
});

test("a worker says the same, and the page goes on meanwhile", { skip }, () => {
  const bundle = join(made.folder, "attention");
  assert.deepEqual(found.worker.greedy, said(bundle, all.slice(0, 300)));
  assert.equal(found.worker.best.length, 4);
  assert.equal(found.worker.streamed.join(""), said(bundle, [few.at(-1)])[0]);
  assert.ok(found.worker.short.length === 1 && found.worker.after === said(bundle, [few.at(-1)])[0]);
  assert.ok(found.worker.ticks > 10, `${found.worker.ticks} ticks`);
  assert.deepEqual([found.worker.failure.isOurs, found.worker.failure.kind], [true, "config"]);
});

test("what goes wrong is said with what would be right", { skip }, () => {
  const { nothing, option, unknown, fused, fusedBeams } = found.failures;
  assert.match(nothing.message, /nothing\/s2s\.yaml: status 404; give the folder/);
  assert.match(option.message, /`num_beams`: 0 is not between 1 and 1024/);
  assert.match(unknown.message, /does not know: 日/);
  assert.match(fused.message, /no translate graph; export with --fused/);
  assert.match(fusedBeams.message, /greedy; load without/);
  for (const error of [nothing, option, unknown, fused, fusedBeams]) assert.ok(error.isOurs);
  assert.equal(found.skipped, said(join(made.folder, "plain"), ["5 May 2001"])[0]);
});

test("the package is under 15 kB compressed, beside onnxruntime-web", () => {
  const dist = join(HERE, "../dist");
  const size = readdirSync(dist).filter((name) => name.endsWith(".js")).reduce((sum, name) => sum + gzipSync(readFileSync(join(dist, name))).length, 0);
  assert.ok(size < 15_000, `${size} bytes`);
});
