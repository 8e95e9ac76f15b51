import { render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Timeline, Worker } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import TimelineView from "./index";

const NOW = 1_000_000_000;
const timeline = (parts: Partial<Timeline> = {}): Timeline => ({
  start: NOW - 300_000,
  step_s: 1,
  steps: 300,
  phases: ["unknown", "training", "data", "barrier", "checkpoint", "lost", "idle", "absent"],
  rows: [
    {
      worker_id: "w-1",
      runs: [
        [7, 100],
        [1, 150],
        [5, 50],
      ],
    },
  ],
  releases: [
    {
      id: "1/step/9",
      at: NOW - 20_000,
      wait_ms: 90,
      skew_max_ms: 80,
      broken: false,
      slowest: [{ worker_id: "w-1", late_ms: 80 }],
    },
  ],
  total_workers: 1,
  ...parts,
});

let api: FakeApi;
function show(answer: Timeline | undefined, workers: readonly Worker[] = [{ id: "w-1" } as Worker]) {
  api = new FakeApi(answer === undefined ? {} : { "/api/timeline": answer });
  render(api.wrap(<TimelineView />));
  api.show(dashboardOf({ at: NOW, workers: [...workers] }));
}

describe("the timeline view", () => {
  afterEach(() => api.sources.live.stop());
  beforeEach(() => history.replaceState(null, "", "/timeline"));

  it("has the same spans as a table, without the time in which a worker was not there", async () => {
    show(timeline());
    await userEvent.click(await screen.findByRole("button", { name: /as a table/ }));
    const table = screen.getByRole("table", { name: "What workers spent their time on" });
    const texts = within(table)
      .getAllByRole("row")
      .slice(1)
      .map((row) => [row.children[0]?.textContent, row.children[1]?.textContent, row.children[3]?.textContent]);
    expect(texts).toEqual([
      ["w-1", "Training", "2 min 30 s"],
      ["w-1", "Lost", "50 s"],
    ]);
  });

  it("says who was late at each barrier", async () => {
    show(timeline());
    const grid = await screen.findByRole("grid", { name: /Barriers that ended/ });
    const row = within(grid).getAllByRole("row")[1] as HTMLElement;
    expect(row.textContent).toContain("1/step/9");
    expect(row.textContent).toContain("w-1 80 ms after");
    expect(screen.getByText(/Most often last:/).textContent).toContain("w-1 1× by 80 ms");
  });

  it("stands still at a barrier that is chosen, and goes back to now", async () => {
    show(timeline());
    const grid = await screen.findByRole("grid", { name: /Barriers that ended/ });
    await userEvent.click(within(grid).getByText("1/step/9"));
    await userEvent.click(await screen.findByRole("button", { name: "Back to now" }));
    expect(screen.queryByRole("button", { name: "Back to now" })).toBeNull();
  });

  it("is moved by the keyboard alone", async () => {
    show(timeline());
    (await screen.findByRole("application")).focus();
    await userEvent.keyboard("{ArrowLeft}");
    expect(screen.getByRole("button", { name: "Back to now" })).toBeTruthy();
    await userEvent.keyboard("{End}");
    expect(screen.queryByRole("button", { name: "Back to now" })).toBeNull();
  });

  it("stands where its address says", async () => {
    history.replaceState(null, "", `/timeline?span=60&to=${NOW - 100_000}`);
    show(timeline());
    expect(await screen.findByRole("button", { name: "Back to now" })).toBeTruthy();
    expect((screen.getByRole("radio", { name: "1 min" }) as HTMLInputElement).checked).toBe(true);
    expect(screen.getByText("No barrier ended in this time.")).toBeTruthy();
  });

  it("has pages where there are more workers than fit", async () => {
    show(timeline({ total_workers: 250 }));
    expect(await screen.findByText("1 to 100 of 250 workers")).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Workers after" }));
    expect(screen.getByText("101 to 200 of 250 workers")).toBeTruthy();
    expect(location.search).toContain("page=1");
  });

  it("says why there is nothing yet, and what failed", async () => {
    show(timeline({ rows: [], releases: [], total_workers: 0 }), []);
    expect(await screen.findByText("No worker has joined yet")).toBeTruthy();
  });

  it("offers to try again where it could not be read", async () => {
    show(undefined);
    expect(await screen.findByText("The timeline cannot be read")).toBeTruthy();
    expect(screen.getByRole("button", { name: "Try again" })).toBeTruthy();
  });
});
