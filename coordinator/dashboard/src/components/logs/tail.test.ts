import { describe, expect, it } from "vitest";
import type { LogLine, LogPage } from "~/api/types";
import {
  addLive,
  addPage,
  EMPTY_TAIL,
  fieldsText,
  fillGap,
  highlight,
  LINES_MAX,
  type LogFilters,
  matches,
  mergeLines,
  toJsonLines,
} from "./tail";

const ALL: LogFilters = { level: "", source: "", search: "" };

function line(number: number, parts: Partial<LogLine> = {}): LogLine {
  return {
    number,
    timestamp: number * 1000,
    level: "info",
    source: "coordinator",
    message: `m${number}`,
    fields: {},
    ...parts,
  };
}
const lines = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, at) => line(from + at));
const page = (from: number, to: number, before: number | null = null): LogPage => ({
  lines: lines(from, to),
  before,
  sources: ["coordinator"],
});
const numbers = (tail: { lines: readonly LogLine[] }) => tail.lines.map(({ number }) => number);

describe("the filters are the API's", () => {
  it.each<[Partial<LogFilters>, boolean]>([
    [{}, true],
    [{ level: "warning" }, true],
    [{ level: "error" }, false],
    [{ source: "digits" }, true],
    [{ source: "dig" }, false],
    [{ source: "digits/worker-0" }, true],
    [{ search: "TIMED out" }, true],
    [{ search: "digits" }, false],
  ])("%o passes: %s", (filters, passed) => {
    const one = line(1, { level: "warning", source: "digits/worker-0", message: "Store timed out" });
    expect(matches(one, { ...ALL, ...filters })).toBe(passed);
  });
});

describe("a tail", () => {
  it("continues the first page with live lines, each once", () => {
    const first = addPage(EMPTY_TAIL, page(3, 5, 3));
    const next = addLive(first, lines(4, 7), ALL);
    expect(numbers(next)).toEqual([3, 4, 5, 6, 7]);
    expect(next.before).toBe(3);
    expect(next.gap).toBeNull();
  });

  it("stays the same object when nothing is new, so that nothing is drawn anew", () => {
    const first = addPage(EMPTY_TAIL, page(1, 5));
    expect(addLive(first, lines(2, 5), ALL)).toBe(first);
  });

  it("puts earlier lines before those it has", () => {
    const tail = addPage(addPage(EMPTY_TAIL, page(6, 8, 6)), page(2, 5, 2));
    expect(numbers(tail)).toEqual([2, 3, 4, 5, 6, 7, 8]);
    expect(tail.before).toBe(2);
    expect(tail.seen).toBe(8);
  });

  it("keeps of live lines what passes, and counts the others as seen", () => {
    const tail = addLive(addPage(EMPTY_TAIL, page(1, 2)), [line(3), line(4, { level: "error" })], {
      ...ALL,
      level: "error",
    });
    expect(numbers(tail)).toEqual([1, 2, 4]);
    expect(tail.seen).toBe(4);
    expect(addLive(tail, [line(5)], ALL).gap).toBeNull();
  });

  it("knows the processes of live lines, too", () => {
    const tail = addLive(addPage(EMPTY_TAIL, page(1, 1)), [line(2, { source: "api" })], ALL);
    expect(tail.sources).toEqual(["api", "coordinator"]);
  });

  it("notices what came too fast, asks for it, and is whole again", () => {
    const late = addLive(addPage(EMPTY_TAIL, page(1, 3)), lines(10, 11), ALL);
    expect(late.gap).toEqual({ after: 3, before: 10 });
    const filled = fillGap(late, { after: 3, before: 10 }, page(4, 9, 4));
    expect(numbers(filled)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(filled.gap).toBeNull();
    expect([...filled.holes]).toEqual([]);
  });

  it("marks the place where lines are lost for good", () => {
    const late = addLive(addPage(EMPTY_TAIL, page(1, 3)), lines(10, 11), ALL);
    const filled = fillGap(late, { after: 3, before: 10 }, page(8, 9, 8));
    expect(numbers(filled)).toEqual([1, 2, 3, 8, 9, 10, 11]);
    expect([...filled.holes]).toEqual([8]);
  });

  it("does not mark a gap in which no line passes the filters", () => {
    const late = addLive(addPage(EMPTY_TAIL, page(1, 3)), lines(10, 11), ALL);
    expect([...fillGap(late, { after: 3, before: 10 }, { lines: [line(2)], before: 2, sources: [] }).holes]).toEqual(
      [],
    );
  });

  it("keeps the newest lines of a log without end", () => {
    const tail = addLive(addPage(EMPTY_TAIL, page(1, LINES_MAX)), lines(LINES_MAX + 1, LINES_MAX + 5), ALL);
    expect(tail.lines).toHaveLength(LINES_MAX);
    expect(tail.lines[0]?.number).toBe(6);
    expect(tail.before).toBe(6);
  });

  it("merges lists that overlap in any way", () => {
    expect(mergeLines(lines(3, 6), lines(1, 4)).map((one) => one.number)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(mergeLines([], lines(1, 2))).toHaveLength(2);
  });
});

describe("what is taken along", () => {
  it("is one JSON object a line, and a field cannot replace the message", () => {
    const text = toJsonLines([
      line(1, { timestamp: 0, message: 'two\nlines and "quotes"' }),
      line(2, { timestamp: 1500, fields: { message: "other", step: 7 } }),
    ]);
    expect(text.endsWith("\n")).toBe(true);
    const read = text
      .trimEnd()
      .split("\n")
      .map((one) => JSON.parse(one));
    expect(read).toEqual([
      {
        timestamp: "1970-01-01T00:00:00.000Z",
        level: "info",
        source: "coordinator",
        message: 'two\nlines and "quotes"',
      },
      {
        timestamp: "1970-01-01T00:00:01.500Z",
        level: "info",
        source: "coordinator",
        message: "m2",
        fields: { message: "other", step: 7 },
      },
    ]);
  });

  it("shows fields as one line", () => {
    expect(fieldsText({ step: 7, store: "near", tags: ["a"] })).toBe('step=7 store=near tags=["a"]');
  });
});

describe("what was searched for", () => {
  it("is marked wherever it stands, in any case of letters", () => {
    expect(highlight("Step by step", "step")).toEqual([
      { text: "Step", hit: true },
      { text: " by ", hit: false },
      { text: "step", hit: true },
    ]);
  });
  it("leaves a text alone whose letters change their length with their case", () => {
    expect(highlight("İstanbul step", "step")).toEqual([{ text: "İstanbul step", hit: false }]);
  });
});
