/** A translator in a worker, from the worker's side: a module worker that runs this file answers `Translator.inWorker`. */
import { S2sError } from "./errors.js";
import type { Ort } from "./graphs.js";
import { Translator } from "./index.js";
import type { Answer, Request } from "./remote.js";

let translator: Translator | undefined;
const cancelled = new Set<number>();
const running = new Set<number>();

const answer = (said: Answer): void => (globalThis as unknown as { postMessage(said: Answer): void }).postMessage(said);

async function act(request: Request): Promise<unknown> {
  if (request.do === "load") {
    const ort = (await import(/* @vite-ignore */ /* webpackIgnore: true */ request.ort)) as Ort;
    translator = await Translator.load(request.url, { ort, session: request.session, fused: request.fused });
    return undefined;
  }
  if (translator === undefined) throw new S2sError("engine", "no bundle is loaded");
  switch (request.do) {
    case "translate":
      return translator.translate(request.texts as string, request.options);
    case "nBest":
      return translator.nBest(request.text, request.n, request.options);
    case "stream":
      for await (const piece of translator.stream(request.text, request.options)) {
        if (cancelled.has(request.id)) break;
        answer({ id: request.id, piece });
      }
      return undefined;
    case "release":
      return translator.release();
    case "cancel":
      return undefined;
  }
}

globalThis.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  const { id } = data;
  if (data.do === "cancel") {
    if (running.has(id)) cancelled.add(id);
    return;
  }
  running.add(id);
  act(data)
    .then((value) => answer({ id, value }))
    .catch((error: unknown) => {
      const kind = error instanceof S2sError ? error.kind : "engine";
      answer({ id, error: { kind, message: error instanceof Error ? error.message : String(error) } });
    })
    .finally(() => (running.delete(id), cancelled.delete(id)));
});
