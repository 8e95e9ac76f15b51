import { render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Barrier, BarrierStatistics, Hang, Worker } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import { awaitedAt, lastArrival, latecomers, passes } from "./barriers";
import BarriersView from "./index";

function barrier(parts: Partial<Barrier> = {}): Barrier {
  return {
    id: "1/step/7",
    name: "step",
    arrived: 3,
    total: 3,
    status: "complete",
    created_at: 0,
    step: 7,
    generation: 1,
    commit: true,
    broken: false,
    ended_at: 1000,
    wait_ms: 20,
    skew_p50_ms: 5,
    skew_p90_ms: 15,
    skew_p99_ms: 20,
    skew_max_ms: 20,
    slowest: [
      { worker_id: "w-1", late_ms: 12 },
      { worker_id: "w-2", late_ms: 20 },
    ],
    missing: [],
    ...parts,
  };
}
const statistics = (parts: Partial<BarrierStatistics> = {}): BarrierStatistics => ({
  window_s: 60,
  count: 0,
  wait_p50_ms: null,
  wait_p99_ms: null,
  skew_p50_ms: null,
  skew_p99_ms: null,
  most_often_last: [],
  ...parts,
});

describe("a barrier", () => {
  it("has its last arrival by lateness, whatever the order that it was told in", () => {
    expect(lastArrival(barrier())).toEqual({ worker_id: "w-2", late_ms: 20 });
    expect(lastArrival(barrier({ slowest: [] }))).toBeNull();
  });

  it("passes the filters that it belongs to", () => {
    expect(passes(barrier(), "commit")).toBe(true);
    expect(passes(barrier({ commit: false }), "commit")).toBe(false);
    expect(passes(barrier({ commit: false }), "other")).toBe(true);
    expect(passes(barrier({ broken: true }), "broken")).toBe(true);
  });

  it("that is open names whom it awaits, with what is known of each", () => {
    const worker = { id: "w-1" } as Worker;
    const hang = { worker_id: "w-2" } as Hang;
    expect(awaitedAt(barrier({ missing: ["w-1", "w-2"] }), [worker], [hang])).toEqual([
      { id: "w-1", worker, hang: undefined },
      { id: "w-2", worker: undefined, hang },
    ]);
  });

  it("has those who are last most often first", () => {
    const told = statistics({
      most_often_last: [
        { worker_id: "a", shards: 1 },
        { worker_id: "b", shards: 9 },
      ],
    });
    expect(latecomers(told)).toEqual([
      { id: "b", times: 9 },
      { id: "a", times: 1 },
    ]);
  });
});

describe("the view", () => {
  let api: FakeApi;
  beforeEach(() => {
    history.replaceState(null, "", "/barriers");
    api = new FakeApi({ "/api/history": { start: 0, step_s: 1, series: {} } });
  });
  afterEach(() => api.sources.live.stop());

  it("says what a barrier is before there was one", async () => {
    render(api.wrap(<BarriersView />));
    api.show(dashboardOf({ barrier_statistics: statistics() }));
    expect(await screen.findByText("No worker has come to a barrier yet")).toBeTruthy();
  });

  it("shows a figure that was not measured as unknown, never as zero", async () => {
    render(api.wrap(<BarriersView />));
    api.show(dashboardOf({ barriers: [barrier()], barrier_statistics: statistics() }));
    const tile = await screen.findByRole("group", { name: "Wait, p99" });
    expect(tile.textContent).toContain("unknown: no barrier has ended in this time");
  });

  it("tells who is awaited at an open one, and which of them hangs", async () => {
    const open = barrier({ id: "1/step/8", status: "waiting", arrived: 2, ended_at: null, missing: ["w-1"] });
    const hang = { worker_id: "w-1", where: "1/step/8" } as Hang;
    render(api.wrap(<BarriersView />));
    api.show(dashboardOf({ barriers: [open], barrier_statistics: statistics(), hangs: [hang] }));
    expect(await screen.findByRole("list", { name: "Awaited at step" })).toBeTruthy();
    expect(screen.getByText("Hangs: see its stacks")).toBeTruthy();
    expect(screen.getByRole("link", { name: "w-1" }).getAttribute("href")).toBe("/workers/w-1");
  });
});
