import { describe, expect, it } from "vitest";
import type { Release } from "~/api/types";
import { readStand, writeStand } from "./address";
import { lastOf, latecomers, releaseMarks, releasesIn } from "./releases";
import { PAST_MS, pagesOf, rowsFor, windowFor } from "./window";

const release = (at: number, slowest: [string, number][] = [], parts: Partial<Release> = {}): Release => ({
  id: `1/step/${at}`,
  at,
  wait_ms: 1,
  skew_max_ms: Math.max(0, ...slowest.map(([, late]) => late)),
  broken: false,
  slowest: slowest.map(([worker_id, late_ms]) => ({ worker_id, late_ms })),
  ...parts,
});

describe("what the timeline asks for", () => {
  it("is the present while it follows, in one of a few lengths", () => {
    expect(windowFor(null, 300_000)).toEqual({ seconds: 300, end: null });
    expect(windowFor(null, 301_000)).toEqual({ seconds: 600, end: null });
  });

  it("holds the whole view while it stands still, wherever that is", () => {
    for (const length of [2_000, 60_000, 61_000, 299_000, 900_000]) {
      for (let to = 10_000_000; to < 10_600_000; to += 7_777) {
        const { seconds, end } = windowFor({ from: to - length, to }, length);
        expect(end).toBeGreaterThanOrEqual(to);
        expect((end ?? 0) - seconds * 1000).toBeLessThanOrEqual(to - length);
        expect(seconds).toBeLessThanOrEqual(PAST_MS / 1000);
      }
    }
  });

  it("stays the same during a drag over a few pixels", () => {
    const asked = new Set<string>();
    for (let to = 10_000_000; to < 10_060_000; to += 500) {
      asked.add(JSON.stringify(windowFor({ from: to - 300_000, to }, 300_000)));
    }
    expect(asked.size).toBeLessThanOrEqual(2);
  });

  it("has fewer workers of a longer time", () => {
    expect([60, 300, 900, 1800, 3600].map(rowsFor)).toEqual([100, 100, 100, 50, 25]);
  });

  it("has pages, and stays on the last one when workers leave", () => {
    expect(pagesOf(0, 100, 1_000)).toEqual({ page: 0, count: 10, offset: 0 });
    expect(pagesOf(9, 100, 250)).toEqual({ page: 2, count: 3, offset: 200 });
    expect(pagesOf(3, 100, 0)).toEqual({ page: 0, count: 1, offset: 0 });
  });
});

describe("the timeline's address", () => {
  it("tells its length and, while it stands still, its end", () => {
    expect(writeStand({ lengthMs: 300_000, paused: null })).toEqual({ span: "", to: "" });
    expect(writeStand({ lengthMs: 60_000, paused: { from: 940_000, to: 1_000_000 } })).toEqual({
      span: "60",
      to: "1000000",
    });
  });

  it("is read back as it was written, and what it cannot mean is left at the usual", () => {
    expect(readStand("?span=60&to=1000000")).toEqual({ lengthMs: 60_000, paused: { from: 940_000, to: 1_000_000 } });
    expect(readStand("?span=zz&to=-4")).toEqual({ lengthMs: 300_000, paused: null });
    expect(readStand("?span=1e9")).toEqual({ lengthMs: 300_000, paused: null });
  });
});

describe("who was late", () => {
  it("is told of the barriers within the view, the newest first", () => {
    const shown = releasesIn([release(1), release(5), release(9)], { from: 4, to: 9 });
    expect(shown.map(({ at }) => at)).toEqual([9, 5]);
  });

  it("is the one that came last, and nobody where arrivals were not told apart", () => {
    expect(
      lastOf(
        release(1, [
          ["a", 3],
          ["b", 80],
        ]),
      )?.worker_id,
    ).toBe("b");
    expect(lastOf(release(1))).toBeNull();
  });

  it("counts how often each came last and the middle of by how much", () => {
    const rows = [
      release(1, [["a", 10]]),
      release(2, [["a", 30]]),
      release(3, [["b", 500]]),
      release(4, [["b", 900]], { broken: true }),
    ];
    expect(latecomers(rows)).toEqual([
      { worker_id: "a", times: 2, median_ms: 20 },
      { worker_id: "b", times: 1, median_ms: 500 },
    ]);
  });

  it("marks all barriers where they are few, and the worst where they are many", () => {
    expect(releaseMarks([release(1), release(2)])).toHaveLength(2);
    const many = Array.from({ length: 300 }, (_, at) => release(at, [["a", at]]));
    const marks = releaseMarks([...many, release(400, [], { broken: true })]);
    expect(marks).toHaveLength(10);
    expect(marks[0]).toMatchObject({ at: 400, broken: true });
    expect(marks[1]).toMatchObject({ at: 299, label: "1/step/299: a last by 299 ms" });
  });
});
