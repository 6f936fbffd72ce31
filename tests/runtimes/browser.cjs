// Types lines into the page of examples/loops/browser in a headless Chromium and prints what it shows.
//
//     NODE_PATH=.../node_modules CHROMIUM=... node browser.cjs BUNDLE [SCREENSHOT.png] < texts
//
// The folder is served with `bundle` and `node_modules` in their places; one script is added, which types and reads.
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const { mkdtempSync, readFileSync, rmSync } = require("node:fs");
const { readFile } = require("node:fs/promises");
const { createServer } = require("node:http");
const { tmpdir } = require("node:os");
const { extname, join, normalize } = require("node:path");

const [bundle, screenshot] = process.argv.slice(2);
const texts = readFileSync(0, "utf8").split("\n").slice(0, -1);
const page = join(__dirname, "../../examples/loops/browser");
const TYPES = { ".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm", ".yaml": "text/plain; charset=utf-8" };
const TYPIST = `<script type="module">
const texts = await (await fetch("texts")).json(), shown = [];
while (out.value.startsWith("loading")) await new Promise((resolve) => setTimeout(resolve, 5));
for (const line of texts) {
  out.value = "waiting";
  text.value = line;
  text.dispatchEvent(new Event("input"));
  while (out.value === "waiting") await new Promise((resolve) => setTimeout(resolve, 5));
  shown.push(out.value);
}
await fetch("shown", { method: "POST", body: JSON.stringify(shown) });
</script>`;

async function main() {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(request.url.split("?")[0]));
    const send = (body, type) => response.writeHead(200, { "content-type": type ?? "application/octet-stream" }).end(body);
    try {
      if (path === "/texts") return send(JSON.stringify(texts), "application/json");
      if (path === "/shown") {
        let body = "";
        for await (const chunk of request) body += chunk;
        process.stdout.write(JSON.parse(body).map((line) => `${line}\n`).join(""));
        send("");
        return finish();
      }
      if (path === "/") return send((await readFile(join(page, "index.html"), "utf8")) + (request.url === "/" ? TYPIST : ""), TYPES[".html"]);
      const [, first, ...rest] = path.split("/");
      const root = { bundle, node_modules: process.env.NODE_PATH }[first];
      if (root === undefined) return response.writeHead(404).end();
      send(await readFile(join(root, ...rest)), TYPES[extname(path)]);
    } catch (error) {
      response.writeHead(404).end(String(error));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}/`;
  const profile = mkdtempSync(join(tmpdir(), "s2s-page-"));
  const chromium = process.env.CHROMIUM ?? "chromium";
  const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", `--user-data-dir=${profile}`];
  const browser = spawn(chromium, [...flags, url], { stdio: "ignore" });
  browser.on("error", (error) => (console.error(error.message), process.exit(1)));
  const limit = setTimeout(() => (console.error("the page showed nothing within 120 s"), browser.kill("SIGKILL"), process.exit(1)), 120_000);
  const finish = async () => {
    clearTimeout(limit);
    browser.kill("SIGKILL");
    await once(browser, "exit");
    if (screenshot !== undefined) {
      const size = ["--window-size=800,360", "--hide-scrollbars", "--virtual-time-budget=20000", `--screenshot=${screenshot}`];
      const shot = spawn(chromium, [...flags, ...size, `${url}?q=${encodeURIComponent(texts[0])}`], { stdio: "ignore" });
      await once(shot, "exit");
    }
    try {
      rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
    } catch {
      // A dying process of the browser still writes there; a folder left in the temporary one is no failure.
    }
    process.exit(0);
  };
}

main();
