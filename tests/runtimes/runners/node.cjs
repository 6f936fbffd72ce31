// ONNX Runtime's package for Node, served over stdin and stdout as serve.py describes.
//
//     NODE_PATH=.../node_modules node node.cjs
const { readFile } = require("node:fs/promises");
const { createInterface } = require("node:readline");
const { handler } = require("./ort_js.js");

const answer = (value) => process.stdout.write(JSON.stringify(value) + "\n");

async function main() {
  let ort;
  try {
    ort = require("onnxruntime-node");
  } catch (error) {
    return answer({ missing: error.message.split("\n")[0] });
  }
  answer({ version: ort.env.versions.node ?? ort.env.versions.common });
  const handle = handler(ort, "cpu", async (path) => new Uint8Array(await readFile(path)));
  for await (const line of createInterface({ input: process.stdin })) answer(await handle(JSON.parse(line)));
}

main();
