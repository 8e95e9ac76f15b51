import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Job, JobTemplate } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import JobsView from "./index";
import { inOrder, ranS } from "./jobs";
import { freeName, nameProblem, readParameter, readValue } from "./parameters";

function job(parts: Partial<Job> = {}): Job {
  return {
    id: "job-1",
    name: "sweep",
    type: "digits",
    status: "running",
    dataset_id: "",
    worker_count: 2,
    config: {},
    created_at: 0,
    started_at: 1000,
    ended_at: null,
    exit_code: null,
    pid: 7,
    origin: "api",
    stoppable: true,
    message: "",
    ...parts,
  };
}
const TEMPLATE: JobTemplate = {
  type: "digits",
  description: "Digits, a small network",
  workers_max: 4,
  parameters: { epochs: "int from 1 to 100, default 3", augment: "bool, default true", tag: "text of letters" },
};

describe("a parameter is read from the API's words", () => {
  it.each([
    ["int from 1 to 100, default 3", { kind: "int", least: 1, most: 100, fallback: "3" }],
    ["float, 0.0001 to 1e-1, default 0.05", { kind: "float", least: 0.0001, most: 0.1, fallback: "0.05" }],
    ["int, at least -2", { kind: "int", least: -2, most: null, fallback: null }],
    ["bool, default false", { kind: "bool", fallback: "false" }],
    ["int from 1, required", { kind: "int", least: 1, most: null, fallback: null }],
    ["text like default [a-z]+, default base", { kind: "text", fallback: "base" }],
    ["text of letters, default a b", { kind: "text", least: null, fallback: "a b" }],
    ["a thing of tomorrow", { kind: "text", fallback: null }],
  ])("%s", (words, expected) => expect(readParameter("p", words)).toMatchObject(expected));
});

describe("what is typed", () => {
  const epochs = readParameter("epochs", "int from 1 to 100, default 3");
  it.each([
    ["", { ok: true, value: undefined }],
    ["7", { ok: true, value: 7 }],
    ["0", { ok: false, problem: "It is at least 1." }],
    ["101", { ok: false, problem: "It is at most 100." }],
    ["1.5", { ok: false, problem: "It has to be a whole number." }],
    ["x", { ok: false, problem: "It is no number." }],
  ])("%s in a whole number", (text, reading) => expect(readValue(epochs, text)).toEqual(reading));

  it("has to be said where there is no default, and is never an option of a program", () => {
    const tag = readParameter("tag", "text of letters");
    expect(readValue(tag, "")).toMatchObject({ ok: false });
    expect(readValue(tag, "--evil")).toMatchObject({ ok: false });
    expect(readValue(tag, "<b>")).toEqual({ ok: true, value: "<b>" });
  });

  it("as a name has the characters that the API takes", () => {
    expect(nameProblem("sweep-1.2_b")).toBe("");
    for (const name of ["", "a b", "a/b", "x".repeat(129), "ä"]) expect(nameProblem(name)).not.toBe("");
    expect(freeName("my job", ["my-job-1"])).toBe("my-job-2");
  });
});

describe("a job", () => {
  it("has run until now, until its end, or for a time that nobody knows", () => {
    expect(ranS(job(), 3000)).toBe(2);
    expect(ranS(job({ status: "completed", ended_at: 5000 }), 9000)).toBe(4);
    expect(ranS(job({ status: "failed" }), 9000)).toBeNull();
    expect(ranS(job({ started_at: null, status: "pending" }), 9000)).toBeNull();
  });
  it("that goes on stands above those that have ended", () => {
    const rows = [
      job({ id: "old", status: "failed", created_at: 9 }),
      job({ id: "a", created_at: 1 }),
      job({ id: "b", created_at: 2 }),
    ];
    expect(inOrder(rows).map(({ id }) => id)).toEqual(["b", "a", "old"]);
  });
});

describe("the view", () => {
  let api: FakeApi;
  let sent: { path: string; body: unknown }[];
  beforeEach(() => {
    history.replaceState(null, "", "/jobs");
    HTMLDialogElement.prototype.showModal = function show() {
      this.open = true;
    };
    api = new FakeApi({ "/api/jobs/job-1/logs": { lines: [], before: null, sources: [] } });
    sent = [];
    const post = api.sources.client.post.bind(api.sources.client);
    api.sources.client.post = (path, options = {}) => {
      sent.push({ path, body: options.body });
      return post(path, options);
    };
  });
  afterEach(() => api.sources.live.stop());

  const show = (tasks: Job[], templates: JobTemplate[] = [TEMPLATE]) => {
    render(api.wrap(<JobsView />));
    api.show(dashboardOf({ tasks, templates }));
  };

  it("starts a job with typed values, leaves defaults out, and opens it", async () => {
    api.answers["/api/jobs"] = { task_id: "job-1" };
    show([job()]);
    await userEvent.click(await screen.findByRole("button", { name: "Start a job" }));
    expect(location.search).toBe("?new=digits");
    await userEvent.type(screen.getByRole("spinbutton", { name: "epochs" }), "500");
    await userEvent.click(screen.getByRole("button", { name: "Start the job" }));
    expect(sent).toEqual([]);
    expect(screen.getByText(/It is at most 100/)).toBeTruthy();
    await userEvent.clear(screen.getByRole("spinbutton", { name: "epochs" }));
    await userEvent.type(screen.getByRole("textbox", { name: "tag" }), "base");
    await userEvent.click(screen.getByRole("checkbox", { name: /augment/ }));
    await userEvent.click(screen.getByRole("button", { name: "Start the job" }));
    await waitFor(() => expect(location.pathname).toBe("/jobs/job-1"));
    expect(sent).toEqual([
      {
        path: "/api/jobs",
        body: {
          name: "digits-1",
          type: "digits",
          dataset_id: "",
          worker_count: 1,
          config: { augment: false, tag: "base" },
        },
      },
    ]);
  });

  it("stops a job only after a question, and shows why that was refused", async () => {
    history.replaceState(null, "", "/jobs/job-1");
    show([job()]);
    await userEvent.click(await screen.findByRole("button", { name: "Stop the job" }));
    expect(sent).toEqual([]);
    const dialog = screen.getByRole("dialog", { name: "Stop sweep?" });
    await userEvent.click([...dialog.querySelectorAll("button")].at(-1) as HTMLButtonElement);
    expect(sent.map(({ path }) => path)).toEqual(["/api/jobs/job-1/stop"]);
    expect((await screen.findByRole("alert")).textContent).toContain("no answer for /api/jobs/job-1/stop");
  });

  it("offers no stop where the API cannot stop it", async () => {
    history.replaceState(null, "", "/jobs/job-1");
    show([job({ stoppable: false, origin: "coordinator" })]);
    expect((await screen.findByRole("button", { name: "Stop the job" })).hasAttribute("disabled")).toBe(true);
  });

  it("says what allows starting where nothing is allowed", async () => {
    show([job()], []);
    expect((await screen.findByRole("button", { name: "Start a job" })).hasAttribute("disabled")).toBe(true);
    expect(screen.getByText("strata api --jobs FILE")).toBeTruthy();
  });
});
