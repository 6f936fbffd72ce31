// ONNX Runtime's package for browsers (WASM) in a headless Chromium, served over stdin and stdout as serve.py describes.
//
//     NODE_PATH=.../node_modules CHROMIUM=/usr/bin/chromium node web.cjs
//
// A page of a server on the loopback interface asks for the next request and posts its answer.
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const { mkdtempSync, rmSync } = require("node:fs");
const { readFile } = require("node:fs/promises");
const { createServer } = require("node:http");
const { tmpdir } = require("node:os");
const { basename, dirname, join } = require("node:path");
const { createInterface } = require("node:readline");

const answer = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const PAGE = `<!doctype html><meta charset="utf-8"><script src="ort/ort.wasm.min.js"></script><script src="ort_js.js"></script><script>
ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
ort.env.wasm.numThreads = 1;
const handle = handler(ort, "wasm", async (path) => new Uint8Array(await (await fetch("file?" + encodeURIComponent(path))).arrayBuffer()));
const post = async (value) => (await fetch("answer", { method: "POST", body: JSON.stringify(value) })).json();
(async () => { for (let request = await post({ version: ort.env.versions.web }); ; ) request = await post(await handle(request)); })();
</script>`;

async function main() {
  let folder;
  try {
    folder = dirname(require.resolve("onnxruntime-web"));
  } catch (error) {
    return answer({ missing: error.message.split("\n")[0] });
  }
  const requests = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const types = { ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm" };
  const loaded = new Set();
  const server = createServer(async (request, response) => {
    const send = (body, type = "text/html") => response.writeHead(200, { "content-type": type }).end(body);
    try {
      const [path, query] = request.url.split("?");
      if (path === "/") return send(PAGE);
      if (path === "/ort_js.js") return send(await readFile(join(__dirname, "ort_js.js")), types[".js"]);
      if (path.startsWith("/ort/")) return send(await readFile(join(folder, basename(path))), types[path.slice(path.lastIndexOf("."))]);
      // Only what a request has named.
      if (path === "/file" && loaded.has(decodeURIComponent(query))) return send(await readFile(decodeURIComponent(query)), "application/octet-stream");
      if (path === "/answer") {
        let body = "";
        for await (const chunk of request) body += chunk;
        answer(JSON.parse(body));
        const next = await requests.next();
        if (next.done) return finish(0);
        const value = JSON.parse(next.value);
        if (value.load !== undefined) loaded.add(value.path);
        return send(next.value, "application/json");
      }
      response.writeHead(404).end();
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const profile = mkdtempSync(join(tmpdir(), "s2s-web-"));
  const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking"];
  const url = `http://127.0.0.1:${server.address().port}/`;
  const browser = spawn(process.env.CHROMIUM ?? "chromium", [...flags, `--user-data-dir=${profile}`, url], { stdio: "ignore" });
  const finish = (code) => {
    browser.kill("SIGKILL");
    setTimeout(() => {
      try {
        rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
      } catch {
        // A dying process of the browser still writes there; a folder left in the temporary one is no failure.
      }
      process.exit(code);
    }, 200);
  };
  browser.on("error", (error) => (answer({ missing: `Chromium: ${error.message}` }), finish(1)));
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => finish(1));
  process.stdin.on("end", () => finish(0));
}

main();
