import { describe, expect, it } from "vitest";
import type { Barrier, Dashboard, Worker } from "~/api/types";
import { appendPoints, applyChanges, fold, LOGS_MAX, POINTS_MAX } from "./fold";
import { joinSeries } from "./series";

const worker = (id: string, rank: number | null) => ({ id, rank }) as Worker;
const barrier = (id: string, status: "waiting" | "complete", at: number) =>
  ({ id, status, created_at: at, ended_at: status === "complete" ? at : null }) as Barrier;

const EMPTY = {
  workers: [worker("w-0", 0), worker("w-2", 2)],
  datasets: [],
  checkpoints: [],
  barriers: [],
  tasks: [],
  logs: [],
  events: [],
  alerts: [],
} as unknown as Dashboard;
const change = (changes: Parameters<typeof applyChanges>[1]) => applyChanges(EMPTY, changes, 1, 1);

describe("a live message's changes", () => {
  it("put new workers where their rank is, and those without one at the end", () => {
    const { workers } = change({ workers: [worker("w-9", null), worker("w-1", 1)] });
    expect(workers.map(({ id }) => id)).toEqual(["w-0", "w-1", "w-2", "w-9"]);
  });
  it("replace a row and leave the objects of all others, and of other lists, as they are", () => {
    const next = change({ workers: [worker("w-2", 3)] });
    expect(next.workers[0]).toBe(EMPTY.workers[0]);
    expect(next.workers[1]?.rank).toBe(3);
    expect(next.barriers).toBe(EMPTY.barriers);
  });
  it("drop what is gone", () => {
    expect(change({ gone: { workers: ["w-0", "w-7"] } }).workers.map(({ id }) => id)).toEqual(["w-2"]);
  });
  it("list open barriers first, then the last that ended", () => {
    const rows = [barrier("old", "complete", 1), barrier("open", "waiting", 2), barrier("new", "complete", 3)];
    expect(change({ barriers: rows }).barriers.map(({ id }) => id)).toEqual(["open", "new", "old"]);
  });
  it("empty a list that comes whole and empty", () => {
    expect(applyChanges({ ...EMPTY, alerts: [{}] } as unknown as Dashboard, { alerts: [] }, 1, 1).alerts).toEqual([]);
  });
  it("keep a limited number of lines", () => {
    const logs = Array.from({ length: LOGS_MAX + 5 }, (_, number) => ({ number })) as unknown as Dashboard["logs"];
    expect(change({ logs }).logs).toHaveLength(LOGS_MAX);
    expect(change({ logs }).logs[0]?.number).toBe(5);
  });
});

it("nothing changed is the same list", () => {
  const rows = [worker("a", 0)];
  expect(fold(rows)).toBe(rows);
});

it("points of an hour are kept", () => {
  const many = Array.from({ length: POINTS_MAX + 1 }, (_, at) => [at, at] as const);
  expect(appendPoints({}, { a: many }).a).toHaveLength(POINTS_MAX);
});

describe("a chart's series", () => {
  const history = { start: 10_000, step_s: 1, series: { a: [1, null, 3], b: [4, 5, 6] } };
  it("goes on with live points behind the history, and has none twice", () => {
    const data = joinSeries(
      ["a", "b"],
      history,
      {
        a: [
          [11_000, 99],
          [13_000, 7],
        ],
      },
      60,
    );
    expect(data.x).toEqual([10, 11, 12, 13]);
    expect(data.values).toEqual({ a: [1, null, 3, 7], b: [4, 5, 6, null] });
  });
  it("shows the last seconds only", () => {
    expect(joinSeries(["a"], history, {}, 1).x).toEqual([11, 12]);
  });
  it("is empty before anything is known", () => {
    expect(joinSeries(["a"], undefined, {}, 60)).toEqual({ x: [], values: { a: [] } });
  });
});
