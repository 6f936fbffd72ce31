// What the two JavaScript runners share: a request of the protocol (see serve.py) to its answer, with any build of ONNX Runtime.
//
// - ort: the package onnxruntime-node or onnxruntime-web; provider: cpu or wasm; read: a path to the bytes of the file.
function handler(ort, provider, read) {
  const graphs = {};
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const bytes = (text) => Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
  const tensor = ({ type, shape, hex }) => {
    const { buffer } = bytes(hex);
    const arrays = { int64: BigInt64Array, int32: Int32Array, float32: Float32Array };
    return new ort.Tensor(type, new arrays[type](buffer), shape);
  };
  return async (request) => {
    try {
      if (request.load !== undefined) {
        const options = {
          executionProviders: [provider],
          intraOpNumThreads: 1,
          logSeverityLevel: 3,
          // Otherwise a DequantizeLinear in front of a product becomes one in 8 bits, which is off by some 1e-2.
          extra: { session: { disable_quant_qdq: "1" } },
        };
        graphs[request.load] = { session: await ort.InferenceSession.create(await read(request.path), options), outputs: request.outputs };
        return {};
      }
      const { session, outputs } = graphs[request.run];
      const feed = Object.fromEntries(Object.entries(request.feed).map(([name, value]) => [name, tensor(value)]));
      const results = await session.run(feed, outputs);
      return {
        outputs: outputs.map((name) => {
          const { type, dims, data } = results[name];
          if (type !== "float32") throw new TypeError(`${name} is ${type} instead of float32`);
          return { shape: Array.from(dims), hex: hex(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) };
        }),
      };
    } catch (error) {
      return { error: String(error?.message ?? error).slice(0, 600) };
    }
  };
}
if (typeof module !== "undefined") module.exports = { handler };
