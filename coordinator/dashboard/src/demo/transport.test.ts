import { describe, expect, it } from "vitest";
import openapi from "~/api/openapi.json";
import type { Dashboard, LogPage, Timeline } from "~/api/types";
import { type LiveState, readMessage } from "~/data/dashboard";
import { BARRIERS_MAX } from "~/data/fold";
import { answer } from "./routes";
import { snapshotOf } from "./state";
import { readOptions, Simulation } from "./transport";

const NOW = 1_700_000_000_250;

function simulate(search = ""): Simulation {
  return new Simulation(readOptions(search, NOW));
}

async function get<T>(simulation: Simulation, path: string): Promise<T> {
  const response = await answer(simulation, path, { method: "GET" });
  expect(response.status, path).toBe(200);
  return (await response.json()) as T;
}

const post = (simulation: Simulation, path: string, body?: unknown) =>
  answer(simulation, path, body === undefined ? { method: "POST" } : { method: "POST", body: JSON.stringify(body) });

/** Follows the live channel as the page does. */
async function follow(simulation: Simulation): Promise<() => LiveState> {
  let state: LiveState | null = null;
  let next = -1;
  await new Promise<void>((resolve) => {
    simulation.join({
      onOpen: () => {},
      onClose: () => {},
      onMessage: (text) => {
        const event = readMessage(text);
        if (event.kind === "snapshot") state = event.state;
        else if (event.kind === "delta" && state !== null) {
          expect(event.seq).toBe(next);
          state = event.apply(state);
        }
        next = event.seq + 1;
        resolve();
      },
    });
  });
  return () => {
    if (state === null) throw new Error("no snapshot has come");
    return state;
  };
}

describe("the first look", () => {
  const look = snapshotOf(simulate().world, "life", 1);

  it("has what demo mode is published with: three workers and two datasets, and says that it is simulated", () => {
    expect(look.workers.map((worker) => worker.id)).toEqual(["worker-01", "worker-02", "worker-03"]);
    expect(look.datasets).toHaveLength(2);
    expect(look.coordinator.simulated).toBe(true);
  });

  it("has something in every list but the hangs, which come and go", () => {
    for (const [name, rows] of Object.entries(look)) {
      if (Array.isArray(rows) && name !== "hangs") expect(rows.length, name).toBeGreaterThan(0);
    }
  });

  it("has the last ten minutes of every series and of every worker's time", async () => {
    const simulation = simulate();
    const history = await get<{ series: Record<string, (number | null)[]> }>(simulation, "/api/history?seconds=600");
    for (const [name, values] of Object.entries(history.series)) {
      expect(values.filter((value) => value !== null).length, name).toBeGreaterThan(500);
    }
    const timeline = await get<Timeline>(simulation, "/api/timeline?seconds=600");
    for (const row of timeline.rows) {
      expect(row.runs.reduce((sum, [, steps]) => sum + steps, 0)).toBe(600);
      const phases = new Set(row.runs.map(([phase]) => timeline.phases[phase]));
      for (const phase of ["training", "data", "barrier"]) expect(phases).toContain(phase);
    }
  });
});

describe("what happens", () => {
  it("is the same for the same seed", () => {
    const runs = [simulate("?seed=7"), simulate("?seed=7"), simulate("?seed=8")].map((simulation) => {
      simulation.tick(NOW + 120_000);
      return JSON.stringify(snapshotOf(simulation.world, "", 0));
    });
    expect(runs[0]).toBe(runs[1]);
    expect(runs[0]).not.toBe(runs[2]);
  });

  it("is in six minutes every trouble once, and all is well again after each", () => {
    const simulation = simulate();
    const kinds = new Set<string>();
    const from = simulation.world.journal.events.next;
    let stacks = "";
    let failed = 0;
    for (let second = 0; second < 370; second += 1) {
      simulation.tick(NOW + second * 1000);
      const { hangs, rows } = simulation.world;
      stacks ||= hangs[0]?.stacks ?? "";
      failed = Math.max(failed, [...rows.values()].filter((row) => row.status === "failed").length);
    }
    for (const event of simulation.world.journal.events.from(from)) kinds.add(event.kind);
    for (const kind of [
      "hang",
      "hang_evicted",
      "worker_lost",
      "worker_joined",
      "generation_broken",
      "barrier_broken",
      "checkpoint_began",
      "checkpoint_aborted",
      "checkpoint_durable",
      "epoch",
      "restored",
      "task_failed",
    ]) {
      expect(kinds, kind).toContain(kind);
    }
    expect(stacks).toContain("MainThread");
    expect(failed).toBe(1);
    expect([...simulation.world.rows.values()].every((row) => row.status === "active")).toBe(true);
  });

  it("reaches a page that follows, so that it shows what a page that has just come shows", async () => {
    const simulation = simulate();
    const page = await follow(simulation);
    for (let at = 0; at <= 240_000; at += 250) simulation.tick(NOW + at);
    const whole = snapshotOf(simulation.world, simulation.life, page().dashboard.number);
    const cut = (state: Dashboard) => ({
      ...state,
      logs: state.logs.slice(-100),
      events: state.events.slice(-100),
      barriers: state.barriers.slice(0, 200),
    });
    expect(page().dashboard.barriers.length).toBeLessThanOrEqual(BARRIERS_MAX);
    expect(cut(page().dashboard)).toEqual(cut(whole));
    expect(page().recent.samples_per_s?.length).toBeGreaterThan(230);
  });

  it("can be held in one state, to look at it in peace", () => {
    const alerts = (hold: string) => {
      const simulation = simulate(`?hold=${hold}`);
      simulation.tick(NOW + 60_000);
      return snapshotOf(simulation.world, "", 0).alerts.map((alert) => alert.kind);
    };
    expect(alerts("hang")).toContain("hang");
    expect(alerts("lost")).toContain("worker_lost");
    expect(alerts("abort")).toContain("checkpoint_aborted");
    expect(alerts("gone")).toEqual(["coordinator_gone"]);
    expect(alerts("none")).toEqual([]);
  });
});

describe("requests", () => {
  it("have an answer for every operation of the API that reads", async () => {
    const simulation = simulate();
    const [task] = simulation.world.functions.tasks();
    const [job] = simulation.world.jobs.rows();
    const ids: Record<string, string> = {
      worker_id: "worker-01",
      task_id: task?.task_id ?? "",
      job_id: job?.id ?? "",
    };
    for (const [path, methods] of Object.entries(openapi.paths)) {
      if (!path.startsWith("/api/") || !("get" in methods) || path === "/api/events") continue;
      if (path.startsWith("/api/tasks")) continue; // the published alias, which the page does not use
      await get(
        simulation,
        path.replace(/\{(\w+)\}/g, (_, name: string) => ids[name] ?? ""),
      );
    }
  });

  it("say what there is when they ask for what there is not", async () => {
    for (const path of ["/api/workers/nobody", "/api/nothing", "/api/jobs/none/logs"]) {
      const response = await answer(simulate(), path, { method: "GET" });
      expect(response.status).toBe(404);
      expect(await response.json()).toHaveProperty("detail");
    }
  });

  it("start a job, which runs, writes and can be stopped", async () => {
    const simulation = simulate();
    const asked = { name: "mine", type: "digits", dataset_id: "", worker_count: 2, config: { epochs: 2 } };
    const { task_id } = (await (await post(simulation, "/api/jobs", asked)).json()) as { task_id: string };
    const status = () => simulation.world.jobs.rows().find((job) => job.id === task_id)?.status;
    expect(status()).toBe("pending");
    simulation.tick(NOW + 5_000);
    expect(status()).toBe("running");
    expect((await get<LogPage>(simulation, `/api/jobs/${task_id}/logs`)).lines.length).toBeGreaterThan(2);
    await post(simulation, `/api/jobs/${task_id}/stop`);
    simulation.tick(NOW + 8_000);
    expect(status()).toBe("stopped");
    expect((await post(simulation, "/api/jobs", { ...asked, type: "rm" })).status).toBe(404);
    expect((await post(simulation, "/api/jobs", { ...asked, config: { shell: "true" } })).status).toBe(422);
    expect((await post(simulation, "/api/jobs", { ...asked, worker_count: 9 })).status).toBe(422);
  });

  it("find lines by level, source and words, page by page", async () => {
    const simulation = simulate();
    const all = await get<LogPage>(simulation, "/api/logs?limit=10");
    const earlier = await get<LogPage>(simulation, `/api/logs?limit=10&before=${all.before}`);
    expect(earlier.lines.at(-1)?.number).toBe((all.lines[0]?.number ?? 0) - 1);
    const errors = await get<LogPage>(simulation, "/api/logs?level=error");
    expect(new Set(errors.lines.map((line) => line.level))).toEqual(new Set(["error"]));
    const found = await get<LogPage>(simulation, "/api/logs?source=coordinator&search=GIVEN");
    expect(found.lines.length).toBeGreaterThan(0);
    expect(found.lines.every((line) => line.source === "coordinator" && /given/i.test(line.message))).toBe(true);
  });
});

it("a thousand workers are shown by the page, and their time by the hundred", async () => {
  const simulation = simulate("?workers=1000");
  const look = snapshotOf(simulation.world, "", 0);
  expect(look.workers).toHaveLength(1_000);
  expect(look.workers.reduce((sum, worker) => sum + worker.assigned_shards, 0)).toBe(
    look.datasets.reduce((sum, dataset) => sum + dataset.shard_count, 0),
  );
  const timeline = await get<Timeline>(simulation, "/api/timeline?offset=900&limit=100");
  expect([timeline.rows.length, timeline.total_workers]).toEqual([100, 1_000]);
});
