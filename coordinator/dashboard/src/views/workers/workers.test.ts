import { describe, expect, it } from "vitest";
import type { Worker } from "~/api/types";
import {
  gpuPercent,
  gpus,
  HANGING,
  passes,
  readStates,
  stateOptions,
  timeShares,
  wholeShares,
  writeStates,
} from "./workers";

const worker = (parts: Partial<Worker> = {}): Worker =>
  ({
    id: "w-1",
    state: "TRAINING",
    hanging: false,
    gpu_count: 0,
    usage: null,
    training_share: null,
    data_share: null,
    barrier_share: null,
    checkpoint_share: null,
    ...parts,
  }) as Worker;
const usage = (parts: Partial<NonNullable<Worker["usage"]>>) => parts as NonNullable<Worker["usage"]>;

describe("the filter by state", () => {
  it("shows all where none is chosen, and any of those that are", () => {
    expect(passes(worker(), new Set())).toBe(true);
    expect(passes(worker(), new Set(["IDLE"]))).toBe(false);
    expect(passes(worker(), new Set(["IDLE", "TRAINING"]))).toBe(true);
    expect(passes(worker({ hanging: true }), new Set([HANGING]))).toBe(true);
    expect(passes(worker(), new Set([HANGING]))).toBe(false);
  });

  it("is the same from the address and back", () => {
    expect(writeStates(readStates("TRAINING,FAILED"))).toBe("FAILED,TRAINING");
    expect(readStates("").size).toBe(0);
  });

  it("offers the states that somebody is in or that are chosen, with their numbers", () => {
    const crew = [worker(), worker(), worker({ state: "FAILED" }), worker({ hanging: true })];
    const options = stateOptions(crew, new Set(["IDLE"]));
    expect(options.map(({ value, count }) => [value, count])).toEqual([
      ["TRAINING", 3],
      ["IDLE", 0],
      ["FAILED", 1],
      [HANGING, 1],
    ]);
  });
});

describe("a worker's time", () => {
  it("is nothing at all where it is not reported", () => {
    expect(timeShares(worker())).toEqual([]);
    expect(wholeShares(worker())).toEqual([]);
  });

  it("is filled up with what was idle", () => {
    const shares = wholeShares(worker({ training_share: 0.5, barrier_share: 0.25 }));
    expect(shares.map(({ id, text }) => [id, text])).toEqual([
      ["training", "50 %"],
      ["barrier", "25 %"],
      ["idle", "25 %"],
    ]);
  });
});

describe("a worker's GPUs", () => {
  it("have no mean where none is measured, though there are some", () => {
    expect(gpuPercent(worker({ gpu_count: 2 }))).toBeNull();
    expect(gpus(worker({ gpu_count: 2 }))).toEqual([
      { id: 0, percent: null, memory_bytes: null, celsius: null },
      { id: 1, percent: null, memory_bytes: null, celsius: null },
    ]);
  });

  it("are told one by one, what one of them has not told as unknown", () => {
    const told = worker({
      gpu_count: 2,
      usage: usage({ gpu_percent: [40, 60], gpu_memory_bytes: [1, 2], gpu_celsius: [50] }),
    });
    expect(gpuPercent(told)).toBe(50);
    expect(gpus(told)[1]).toEqual({ id: 1, percent: 60, memory_bytes: 2, celsius: null });
  });
});
