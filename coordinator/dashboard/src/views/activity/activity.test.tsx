import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Event } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import { buckets, type EventFilters, joinEvents, kindCounts, nearest, passes } from "./events";
import ActivityView from "./index";

function event(number: number, parts: Partial<Event> = {}): Event {
  return {
    number,
    at: number * 1000,
    kind: "note",
    level: "info",
    text: `text ${number}`,
    subject: "",
    worker_id: "",
    origin: "coordinator",
    ...parts,
  };
}
const ALL: EventFilters = { kind: "", level: "all", worker: "", search: "", from: null, to: null };

describe("the filters", () => {
  const lost = event(7, {
    kind: "worker_lost",
    level: "error",
    worker_id: "w-1",
    subject: "w-1",
    text: "no heartbeat",
  });
  it.each<[Partial<EventFilters>, boolean]>([
    [{}, true],
    [{ kind: "worker_lost" }, true],
    [{ kind: "note" }, false],
    [{ level: "warning" }, true],
    [{ level: "error" }, true],
    [{ worker: "w-1" }, true],
    [{ worker: "w-10" }, false],
    [{ search: "HEARTBEAT w-1" }, true],
    [{ search: "worker lost" }, true],
    [{ search: "heartbeat w-2" }, false],
    [{ from: 7000, to: 7000 }, true],
    [{ from: 7001 }, false],
    [{ to: 6999 }, false],
  ])("%o passes: %s", (filters, passed) => expect(passes(lost, { ...ALL, ...filters })).toBe(passed));
  it("leave information out where warnings are asked for", () => {
    expect(passes(event(1), { ...ALL, level: "warning" })).toBe(false);
    expect(passes(event(1, { level: "warning" }), { ...ALL, level: "error" })).toBe(false);
  });
});

describe("the log", () => {
  it("joins what was asked for and what came live, each once, newest first, whoever tells it", () => {
    const joined = joinEvents([event(1), event(2)], [event(2), event(3), event(2, { origin: "dispatcher" })]);
    expect(joined.map(({ number, origin }) => `${number}${origin[0]}`)).toEqual(["3c", "2c", "2d", "1c"]);
  });
  it("finds the event that is nearest to a moment", () => {
    expect(nearest([event(9), event(5), event(1)], 5400)).toBe(1);
    expect(nearest([], 1)).toBe(-1);
  });
  it("counts its kinds", () => {
    expect(kindCounts([event(1), event(2), event(3, { kind: "hang" })])).toEqual([
      { kind: "hang", word: "Hang", count: 1 },
      { kind: "note", word: "Note", count: 2 },
    ]);
  });
  it("puts every event of a stretch into one bar, the last moment included", () => {
    const bars = buckets(
      [event(0), event(5, { level: "error" }), event(10, { level: "warning" }), event(11)],
      0,
      10_000,
      5,
    );
    expect(bars.map(({ info, warning, error }) => [info, warning, error])).toEqual([
      [1, 0, 0],
      [0, 0, 0],
      [0, 0, 1],
      [0, 0, 0],
      [0, 1, 0],
    ]);
  });
});

describe("the view", () => {
  let api: FakeApi;
  beforeEach(() => {
    api = new FakeApi({ "/api/history": { start: 0, step_s: 1, series: {} }, "/api/activity": [event(1), event(2)] });
  });
  afterEach(() => api.sources.live.stop());

  const show = async (path: string, events: Event[]) => {
    history.replaceState(null, "", path);
    render(api.wrap(<ActivityView />));
    api.show(dashboardOf({ events }));
    return screen.findByRole("grid", { name: "Events, newest first" });
  };

  it("has earlier events than those that came live", async () => {
    await show("/activity", [event(2), event(3)]);
    expect(await screen.findByText("text 1")).toBeTruthy();
    expect(screen.getByText("3 events")).toBeTruthy();
  });

  it("marks the event of the address, and writes the one that is pressed into it", async () => {
    const grid = await show("/activity?at=2100", [event(2), event(3)]);
    const chosen = () => grid.querySelector('[aria-selected="true"]')?.textContent;
    await waitFor(() => expect(chosen()).toContain("text 2"));
    await userEvent.click(screen.getByText("text 3"));
    expect(location.search).toBe("?at=3000");
    await waitFor(() => expect(chosen()).toContain("text 3"));
  });

  it("shows a stretch of time, and gives it up again", async () => {
    await show("/activity?from=2500&to=3500", [event(2), event(3)]);
    expect(await screen.findByText("1 of 3 events")).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: /^[\d:]+ to [\d:]+$/ }));
    expect(location.search).toBe("");
  });

  it("says what will stand here before anything has happened", async () => {
    api.answers["/api/activity"] = [];
    history.replaceState(null, "", "/activity");
    render(api.wrap(<ActivityView />));
    api.show(dashboardOf());
    expect(await screen.findByText("Nothing has happened yet")).toBeTruthy();
  });
});
