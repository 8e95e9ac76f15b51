import { describe, expect, it } from "vitest";
import {
  formatAge,
  formatBytes,
  formatBytesRate,
  formatClock,
  formatCount,
  formatDuration,
  formatPercent,
  formatPlural,
  formatRate,
  formatSi,
} from "./format";

describe("what was not measured", () => {
  const formats: readonly ((value: number | null | undefined) => string)[] = [
    formatBytes,
    formatBytesRate,
    formatCount,
    formatDuration,
    formatPercent,
    formatRate,
    formatSi,
    formatClock,
    (value) => formatAge(value, 0),
  ];
  it.each(formats.map((format) => [format]))("is unknown and never zero (%#)", (format) => {
    for (const value of [null, undefined, Number.NaN, Number.POSITIVE_INFINITY]) expect(format(value)).toBe("unknown");
  });
  it("differs from a zero that was measured", () => {
    expect([formatBytes(0), formatCount(0), formatDuration(0), formatPercent(0), formatRate(0)]).toEqual([
      "0 B",
      "0",
      "0 s",
      "0 %",
      "0/s",
    ]);
  });
});

describe("sizes and rates", () => {
  it.each([
    [999, "999 B"],
    [1000, "1 kB"],
    [1_234_567, "1.23 MB"],
    [999_600, "1 MB"],
    [64e6, "64 MB"],
    [1.2e9, "1.20 GB"],
  ])("%d bytes are %s", (bytes, text) => expect(formatBytes(bytes)).toBe(text));
  it("names what is counted per second", () => {
    expect(formatRate(12_345, "samples")).toBe("12.3k samples/s");
    expect(formatBytesRate(500e6)).toBe("500 MB/s");
  });
  it("says one worker and two workers", () => {
    expect([1, 2, 1500].map((count) => formatPlural(count, "worker"))).toEqual([
      "1 worker",
      "2 workers",
      "1,500 workers",
    ]);
  });
  it("says 100 % only of the whole", () => {
    expect([0.9999, 1, 0.5, 0.123].map(formatPercent)).toEqual(["99.9 %", "100 %", "50 %", "12.3 %"]);
  });
});

describe("durations and ages", () => {
  it.each([
    [0.000_012, "12 µs"],
    [0.0231, "23.1 ms"],
    [0.9999, "1 s"],
    [1.5, "1.50 s"],
    [59.96, "1 min"],
    [61, "1 min 1 s"],
    [3600, "1 h"],
    [90_061, "1 d 1 h"],
  ])("%d s are %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text));
  it("forgives clocks that differ by a little", () => {
    expect(formatAge(10_500, 10_000)).toBe("just now");
    expect(formatAge(6_000, 10_000)).toBe("4 s ago");
  });
});
