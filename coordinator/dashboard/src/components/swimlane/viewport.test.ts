import { describe, expect, it } from "vitest";
import type { Timeline } from "~/api/types";
import { type Span, timelineLanes } from "./kinds";
import { clampView, firstSpan, followView, panView, spanAt, ticks, zoomView } from "./viewport";

const BOUNDS = { from: 0, to: 600_000 };

describe("the view", () => {
  it("pans no further than what is known, and keeps its length", () => {
    const view = { from: 100_000, to: 160_000 };
    expect(panView(view, -500_000, BOUNDS)).toEqual({ from: 0, to: 60_000 });
    expect(panView(view, 5_000_000, BOUNDS)).toEqual({ from: 540_000, to: 600_000 });
  });
  it("zooms around the moment under the pointer", () => {
    const zoomed = zoomView({ from: 100_000, to: 200_000 }, 0.5, 175_000, BOUNDS);
    expect(zoomed).toEqual({ from: 137_500, to: 187_500 });
  });
  it("is never longer than all there is, nor shorter than two seconds", () => {
    expect(zoomView({ from: 0, to: 600_000 }, 10, 0, BOUNDS)).toEqual(BOUNDS);
    const small = zoomView({ from: 0, to: 3_000 }, 0.01, 1_500, BOUNDS);
    expect(small.to - small.from).toBe(2_000);
  });
  it("follows the present at the same length", () => {
    expect(followView({ from: 0, to: 60_000 }, BOUNDS)).toEqual({ from: 540_000, to: 600_000 });
  });
  it("stands when hardly anything is known yet", () => {
    expect(clampView({ from: 0, to: 60_000 }, { from: 5_000, to: 5_500 })).toEqual({ from: 5_000, to: 7_000 });
  });
  it("has round moments on its axis", () => {
    expect(ticks({ from: 61_000, to: 121_000 }, 6)).toEqual([70_000, 80_000, 90_000, 100_000, 110_000, 120_000]);
  });
});

describe("spans", () => {
  const spans: Span[] = [
    { kind: "training", from: 0, to: 10 },
    { kind: "barrier", from: 10, to: 12 },
    { kind: "training", from: 20, to: 30 },
  ];
  it.each([
    [0, "training"],
    [10, "barrier"],
    [15, null],
    [29, "training"],
    [30, null],
  ])("at %d there is %s", (moment, kind) => expect(spanAt(spans, moment)?.kind ?? null).toBe(kind));
  it("are found by halving", () => {
    const many = Array.from({ length: 1000 }, (_, at): Span => ({ kind: "idle", from: at, to: at + 1 }));
    expect(firstSpan(many, 700.5)).toBe(700);
    expect(firstSpan(many, 5_000)).toBe(1000);
  });
});

it("an answer of the API becomes lanes; absence is empty", () => {
  const timeline: Timeline = {
    start: 1_000,
    step_s: 1,
    steps: 4,
    phases: ["absent", "training", "barrier"],
    rows: [
      {
        worker_id: "w-0",
        runs: [
          [0, 1],
          [1, 2],
          [2, 1],
        ],
      },
    ],
    releases: [],
    total_workers: 1,
  };
  expect(timelineLanes(timeline)[0]?.spans).toEqual([
    { kind: "training", from: 2_000, to: 4_000 },
    { kind: "barrier", from: 4_000, to: 5_000 },
  ]);
});
