/** What went wrong, coarse enough to act upon. */
export type Kind = "bundle" | "config" | "input" | "engine" | "network";

/** Every error of this package; `help` says what would be right. */
export class S2sError extends Error {
  override readonly name = "S2sError";

  constructor(
    readonly kind: Kind,
    message: string,
    readonly help?: string,
  ) {
    super(help === undefined ? message : `${message}; ${help}`);
  }
}
