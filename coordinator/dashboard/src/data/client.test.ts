import { describe, expect, it } from "vitest";
import { ApiClient, ApiError, errorMessage, withQuery } from "./client";
import type { Transport } from "./transport";

function answering(respond: (path: string, init: RequestInit) => Promise<Response>): ApiClient {
  const transport: Transport = { simulated: false, channels: [], fetch: respond, open: () => ({ close: () => {} }) };
  return new ApiClient(transport);
}

const json = (body: unknown, status = 200) =>
  new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json" } });

describe("a request", () => {
  it("returns the body as JSON and sends its own as JSON", async () => {
    let sent: RequestInit | undefined;
    const client = answering(async (_, init) => {
      sent = init;
      return json({ task_id: "7" }, 201);
    });
    expect(await client.post("/api/jobs", { body: { name: "a" } })).toEqual({ task_id: "7" });
    expect(sent?.body).toBe('{"name":"a"}');
  });

  it("fails with the API's own sentence and its help", async () => {
    const client = answering(async () => json({ detail: "no worker w-9.", help: "GET /api/workers lists them." }, 404));
    await expect(client.get("/api/workers/w-9")).rejects.toMatchObject({
      status: 404,
      message: "no worker w-9. GET /api/workers lists them.",
      retryable: false,
    });
  });

  it("ends at its time limit and says so", async () => {
    const client = answering(
      (_, init) => new Promise((_resolve, reject) => init.signal?.addEventListener("abort", () => reject(new Error()))),
    );
    await expect(client.get("/api/status", { timeoutMs: 5 })).rejects.toThrow("has not answered within 0.005 s");
  });

  it("says who should be there when nobody answers, and may be tried again", async () => {
    const client = answering(async () => Promise.reject(new TypeError("failed")));
    const error = await client.get("/api/status").catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status: 0, retryable: true });
  });

  it("tells a caller who gave up nothing but that", async () => {
    const gaveUp = new AbortController();
    const client = answering(async () => Promise.reject(new DOMException("stop", "AbortError")));
    gaveUp.abort();
    await expect(client.get("/api/status", { signal: gaveUp.signal })).rejects.not.toBeInstanceOf(ApiError);
  });
});

describe("an error's body", () => {
  it("names each field that FastAPI objects to", () => {
    expect(errorMessage(422, { detail: [{ loc: ["query", "limit"], msg: "must be at most 1000" }] })).toBe(
      "query.limit: must be at most 1000",
    );
  });
  it("falls back to the status when it says nothing", () => {
    expect(errorMessage(502, "")).toBe("The API answered with status 502.");
    expect(errorMessage(500, { other: 1 })).toBe("The API answered with status 500.");
  });
  it("is cut when it is a page and no sentence", () => {
    expect(errorMessage(500, "x".repeat(10_000))).toHaveLength(600);
  });
});

it("a query leaves out what is not set", () => {
  expect(withQuery("/api/logs", { limit: 10, level: null, source: "", search: "a b" })).toBe(
    "/api/logs?limit=10&search=a+b",
  );
});
