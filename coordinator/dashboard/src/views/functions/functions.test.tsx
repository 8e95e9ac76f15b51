import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Functions, FunctionTask } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import FunctionsView from "./index";
import { isTaskId, ranS, taskLook, waitedS } from "./tasks";

const ID = "0d5f8a3e-2c4b-4f6d-9a1b-7c8d9e0f1a2b";

function task(parts: Partial<FunctionTask> = {}): FunctionTask {
  return {
    task_id: ID,
    status: "FAILED",
    attempt: 2,
    submitted_at: 1000,
    started_at: 1500,
    ended_at: 4500,
    worker: "fw-1",
    error_type: "ValueError",
    error_message: "<b>bad</b>",
    traceback: "Traceback: line 3",
    cause: "",
    stdout: "",
    stderr: "",
    ...parts,
  };
}
function functions(parts: Partial<Functions> = {}): Functions {
  return {
    connected: true,
    address: "tcp://127.0.0.1:5600",
    since: 0,
    mode: "pull",
    store: "sqlite",
    queued: null,
    running: 0,
    ended: 0,
    slots: 0,
    queued_bytes: null,
    result_bytes: null,
    accepted_total: 0,
    completed_total: 0,
    failed_total: 0,
    cancelled_total: 0,
    requeued_total: 0,
    late_results: 0,
    accepted_per_s: null,
    completed_per_s: null,
    failed_per_s: null,
    workers: [],
    ...parts,
  };
}

describe("a task", () => {
  it("has waited and run for what was told, and for nothing that was not", () => {
    expect([waitedS(task()), ranS(task(), 0)]).toEqual([0.5, 3]);
    expect(waitedS(task({ started_at: null }))).toBeNull();
    expect(ranS(task({ status: "RUNNING", ended_at: null }), 2500)).toBe(1);
    expect(ranS(task({ status: "FAILED", ended_at: null }), 2500)).toBeNull();
  });
  it("in a state that the page does not know is shown by its name", () => {
    expect(taskLook("COMPLETED").word).toBe("Completed");
    expect(taskLook("OF_TOMORROW").word).toBe("OF_TOMORROW");
  });
  it("is found by its UUID only", () => {
    expect([ID, ID.replaceAll("-", ""), ` ${ID} `].map(isTaskId)).toEqual([true, true, true]);
    expect(["", "7", `${ID}0`, "../x"].map(isTaskId)).toEqual([false, false, false, false]);
  });
});

describe("the view", () => {
  let api: FakeApi;
  beforeEach(() => {
    history.replaceState(null, "", "/functions");
    api = new FakeApi({
      "/api/history": { start: 0, step_s: 1, series: {} },
      "/api/functions/tasks": { tasks: [task()], next: null },
      [`/api/functions/tasks/${ID}`]: task(),
    });
  });
  afterEach(() => api.sources.live.stop());

  const show = (told: Functions) => {
    render(api.wrap(<FunctionsView />));
    api.show(dashboardOf({ functions: told }));
  };

  it("says how to start a dispatcher where none was ever heard", async () => {
    show(functions({ connected: false, mode: null }));
    expect(await screen.findByText("strata functions up")).toBeTruthy();
  });

  it("keeps what a lost dispatcher showed last, and says so", async () => {
    show(functions({ connected: false }));
    expect(await screen.findByText(/was last heard/)).toBeTruthy();
    expect(screen.getByRole("group", { name: "Queued" }).textContent).toContain("unknown: not measured");
  });

  it("opens one task's story from the table, at an address of its own, markup inert", async () => {
    show(functions());
    await userEvent.click(await screen.findByText(ID));
    expect(location.pathname).toBe(`/functions/${ID}`);
    expect(await screen.findByText("Traceback: line 3")).toBeTruthy();
    expect(document.querySelector("aside b")).toBeNull();
  });

  it("does not ask the API for what cannot be a task's id", async () => {
    show(functions());
    const field = await screen.findByRole("textbox", { name: "Open a task by its id" });
    await userEvent.type(field, "7{Enter}");
    expect(screen.getByText("Not a UUID")).toBeTruthy();
    expect(location.pathname).toBe("/functions");
    await userEvent.clear(field);
    await userEvent.type(field, `${ID}{Enter}`);
    expect(location.pathname).toBe(`/functions/${ID}`);
  });

  it("tells a task that is not known in the API's words", async () => {
    const other = ID.replace("0d", "1d");
    history.replaceState(null, "", `/functions/${other}`);
    show(functions());
    expect((await screen.findByRole("alert")).textContent).toContain(`no answer for /api/functions/tasks/${other}`);
  });
});
