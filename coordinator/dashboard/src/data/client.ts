// Requests to the API: a time limit on each, and errors that carry what the API said. It knows no path and no field.
import type { Transport } from "./transport";

export const REQUEST_TIMEOUT_MS = 10_000;
/** A body of an error is text for a person; more than this is something else. */
const ERROR_TEXT_MAX = 600;

export class ApiError extends Error {
  override readonly name = "ApiError";
  /** The HTTP status, or 0 when nobody answered. */
  readonly status: number;
  /** The body as it was sent, for those who know its form. */
  readonly body: unknown;

  constructor(message: string, status: number, body: unknown = null) {
    super(message);
    this.status = status;
    this.body = body;
  }

  /** True when asking again may help: nobody answered, or the server is busy or away. */
  get retryable(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export type Query = Record<string, string | number | boolean | null | undefined>;

export interface RequestOptions {
  query?: Query;
  /** Sent as JSON. */
  body?: unknown;
  signal?: AbortSignal;
  timeoutMs?: number;
}

export function withQuery(path: string, query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") search.set(name, String(value));
  }
  const text = search.toString();
  return text === "" ? path : `${path}?${text}`;
}

/** The sentence of an error's body: `{detail}`, `{message}` or `{error}`, a list of FastAPI's, or plain text. */
export function errorMessage(status: number, body: unknown): string {
  const found = sentence(body);
  return found === null ? `The API answered with status ${status}.` : found.slice(0, ERROR_TEXT_MAX);
}

function sentence(body: unknown): string | null {
  if (typeof body === "string") return body.trim() === "" ? null : body.trim();
  if (Array.isArray(body)) {
    const parts = body.map(sentence).filter((part) => part !== null);
    return parts.length === 0 ? null : parts.join("; ");
  }
  if (typeof body !== "object" || body === null) return null;
  const fields = body as Record<string, unknown>;
  for (const name of ["detail", "message", "error", "msg"]) {
    const inner = sentence(fields[name]);
    if (inner === null) continue;
    const where = Array.isArray(fields.loc) ? `${fields.loc.join(".")}: ` : "";
    const help = sentence(fields.help);
    return `${where}${inner}${help === null ? "" : ` ${help}`}`;
  }
  return null;
}

async function readBody(response: Response): Promise<unknown> {
  const text = await response.text();
  if (!(response.headers.get("content-type") ?? "").includes("json")) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export class ApiClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  get<T>(path: string, options: RequestOptions = {}): Promise<T> {
    return this.#request<T>("GET", path, options);
  }

  post<T>(path: string, options: RequestOptions = {}): Promise<T> {
    return this.#request<T>("POST", path, options);
  }

  async #request<T>(method: string, path: string, options: RequestOptions): Promise<T> {
    const { query, body, signal, timeoutMs = REQUEST_TIMEOUT_MS } = options;
    const limit = AbortSignal.timeout(timeoutMs);
    const headers: Record<string, string> = { accept: "application/json" };
    const init: RequestInit = {
      method,
      headers,
      credentials: "same-origin",
      signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    };
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(body);
    }
    let response: Response;
    let answer: unknown;
    try {
      response = await this.#transport.fetch(withQuery(path, query), init);
      answer = await readBody(response);
    } catch (error) {
      // Whoever gave up asking wants no message about it.
      if (signal?.aborted) throw error;
      if (limit.aborted) throw new ApiError(`The API has not answered within ${timeoutMs / 1000} s.`, 0);
      throw new ApiError("Nobody answers. Is `strata api` running, and is this page's address its address?", 0);
    }
    if (!response.ok) throw new ApiError(errorMessage(response.status, answer), response.status, answer);
    return answer as T;
  }
}
