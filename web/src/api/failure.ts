/** What went wrong with a request, in whichever of the server's two shapes it came. */
export class Failure extends Error {
  readonly code: string;
  readonly status: number | null;
  readonly hint: string | null;
  readonly requestId: string | null;
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(message: string, more: Partial<Pick<Failure, "code" | "status" | "hint" | "requestId" | "fields">> = {}) {
    super(message);
    this.name = "Failure";
    this.code = more.code ?? "error";
    this.status = more.status ?? null;
    this.hint = more.hint ?? null;
    this.requestId = more.requestId ?? null;
    this.fields = more.fields ?? {};
  }

  /** Whether nothing answered at all. */
  get isUnreachable(): boolean {
    return this.code === UNREACHABLE;
  }
}

export const UNREACHABLE = "unreachable";

/** `{"error": {"message", "code", "hint"?, …}}`; anything else becomes its status. */
export function failureOf(body: unknown, status: number | null, requestId: string | null = null): Failure {
  const error = isRecord(body) && isRecord(body.error) ? body.error : null;
  if (error === null || typeof error.message !== "string") {
    return new Failure(status === null ? "The server failed." : `HTTP ${status}`, { status, requestId });
  }
  return new Failure(error.message, {
    code: typeof error.code === "string" ? error.code : "error",
    hint: typeof error.hint === "string" ? error.hint : null,
    status,
    requestId,
    fields: error,
  });
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
