/** A translator in a worker, from the page's side. */
import { S2sError, type Kind } from "./errors.js";
import type { Alternative, Translates, WorkerOptions } from "./index.js";
import type { DecodingOptions } from "./search.js";

/** What the page asks. */
export type Request =
  | { id: number; do: "load"; url: string; ort: string; session: object; fused: boolean }
  | { id: number; do: "translate"; texts: string | readonly string[]; options: DecodingOptions }
  | { id: number; do: "nBest"; text: string; n: number; options: DecodingOptions }
  | { id: number; do: "stream"; text: string; options: DecodingOptions }
  | { id: number; do: "cancel" }
  | { id: number; do: "release" };

/** What the worker answers: pieces of a stream, and in the end a value or an error. */
export type Answer =
  | { id: number; piece: string }
  | { id: number; value: unknown }
  | { id: number; error: { kind: Kind; message: string } };

type Without<T> = T extends { id: number } ? Omit<T, "id"> : never;

/** Talks to the worker. */
export class Remote implements Translates {
  private last = 0;
  private readonly waiting = new Map<number, (answer: Answer) => void>();

  private constructor(private readonly worker: Worker) {
    worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => this.waiting.get(data.id)?.(data));
    worker.addEventListener("error", (event) => {
      for (const [id, settle] of this.waiting) settle({ id, error: { kind: "engine", message: event.message || "the worker failed" } });
    });
  }

  /** Starts the worker and loads the bundle there. */
  static async load(url: string, { worker, ort, session = {}, fused = false }: WorkerOptions): Promise<Remote> {
    const own = worker instanceof Worker ? worker : new Worker(worker ?? new URL("./worker.js", import.meta.url), { type: "module" });
    const remote = new Remote(own);
    await remote.ask({ do: "load", url, ort: new URL(String(ort), globalThis.location?.href).href, session, fused });
    return remote;
  }

  private ask(request: Without<Request>, piece?: (text: string) => void, started?: (id: number) => void): Promise<unknown> {
    const id = ++this.last;
    started?.(id);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, (answer) => {
        if ("piece" in answer) return piece?.(answer.piece);
        this.waiting.delete(id);
        if ("error" in answer) reject(new S2sError(answer.error.kind, answer.error.message));
        else resolve(answer.value);
      });
      this.worker.postMessage({ ...request, id });
    });
  }

  translate(text: string, options?: DecodingOptions): Promise<string>;
  translate(texts: readonly string[], options?: DecodingOptions): Promise<string[]>;
  translate(texts: string | readonly string[], options: DecodingOptions = {}): Promise<string | string[]> {
    return this.ask({ do: "translate", texts, options }) as Promise<string | string[]>;
  }

  nBest(text: string, n: number, options: DecodingOptions = {}): Promise<Alternative[]> {
    return this.ask({ do: "nBest", text, n, options }) as Promise<Alternative[]>;
  }

  async *stream(text: string, options: DecodingOptions = {}): AsyncGenerator<string, void, undefined> {
    const pieces: string[] = [];
    let wake = (): void => {};
    let over = false;
    let stream = 0;
    const end = this.ask({ do: "stream", text, options }, (piece) => (pieces.push(piece), wake()), (id) => (stream = id));
    const settled = end.finally(() => ((over = true), wake()));
    settled.catch(() => {});
    try {
      while (!over || pieces.length > 0) {
        if (pieces.length === 0) await new Promise<void>((resolve) => (wake = resolve));
        while (pieces.length > 0) yield pieces.shift()!;
      }
      await end;
    } finally {
      if (!over) this.worker.postMessage({ id: stream, do: "cancel" });
    }
  }

  async release(): Promise<void> {
    await this.ask({ do: "release" });
    this.worker.terminate();
  }
}
