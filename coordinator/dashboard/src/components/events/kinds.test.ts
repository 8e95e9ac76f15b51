import { describe, expect, it } from "vitest";
import type { Event } from "~/api/types";
import { activityHref, eventHref, kindLook, rangeHref } from "./kinds";

function event(parts: Partial<Event>): Event {
  return {
    number: 1,
    at: 5,
    kind: "note",
    level: "info",
    text: "",
    subject: "",
    worker_id: "",
    origin: "coordinator",
    ...parts,
  };
}

describe("an event leads", () => {
  it.each<[Partial<Event>, string | null]>([
    [{ kind: "checkpoint_durable", subject: "step 7" }, "/checkpoints/step%207"],
    [{ kind: "worker_lost", subject: "a/b", worker_id: "a/b" }, "/workers/a%2Fb"],
    [{ kind: "epoch" }, "/data"],
    [{ kind: "task_failed", subject: "0d" }, "/functions/0d"],
    [{ kind: "refused", worker_id: "w-1" }, "/workers/w-1"],
    [{ kind: "note" }, null],
    [{ kind: "of_tomorrow" }, null],
  ])("%o to %s", (parts, href) => expect(eventHref(event(parts))).toBe(href));
});

it("a kind that the page does not know keeps its name", () => {
  expect(kindLook("of_tomorrow").word).toBe("of tomorrow");
  expect(kindLook("constructor").word).toBe("constructor");
});

it("a moment and a stretch of time have addresses in whole milliseconds", () => {
  expect(activityHref(1.6)).toBe("/activity?at=2");
  expect(rangeHref(1.6, 2.1)).toBe("/activity?from=1&to=3");
});
