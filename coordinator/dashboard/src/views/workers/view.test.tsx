import { render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Worker, WorkerStory } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import WorkersView from "./index";

const worker = (parts: Partial<Worker>): Worker => ({
  id: "w-1",
  ip: "host-1",
  port: 0,
  status: "active",
  gpu_count: 0,
  last_heartbeat: 0,
  assigned_shards: 3,
  current_epoch: 1,
  current_step: 20,
  current_task: null,
  state: "TRAINING",
  rank: 0,
  pid: 7,
  incarnation: "abc",
  progress: 1,
  moved_at: 0,
  registered_at: null,
  lease_ends_at: null,
  memory_bytes: 0,
  usage: null,
  samples: null,
  samples_per_s: null,
  training_share: null,
  data_share: null,
  barrier_share: null,
  checkpoint_share: null,
  last_at_barriers: 0,
  hanging: false,
  lost_reason: "",
  metadata: {},
  ...parts,
});
const story = (row: Worker, parts: Partial<WorkerStory> = {}): WorkerStory => ({
  worker: row,
  events: [],
  stacks: "",
  stacks_at: null,
  shards: {},
  logs: [],
  ...parts,
});

const CREW = [
  worker({}),
  worker({ id: "w-2", rank: 1, state: "IDLE" }),
  worker({ id: "w-3", rank: null, state: "FAILED", status: "failed", lost_reason: "no message for 3 s" }),
];

let api: FakeApi;
function show(workers: readonly Worker[], answers: Record<string, unknown> = {}) {
  api = new FakeApi(answers);
  render(api.wrap(<WorkersView />));
  api.show(dashboardOf({ workers: [...workers] }));
}

const rows = () =>
  screen
    .getAllByRole("row")
    .slice(1)
    .map((row) => within(row).getAllByRole("gridcell")[0]?.textContent);

describe("the workers view", () => {
  afterEach(() => api.sources.live.stop());
  beforeEach(() => history.replaceState(null, "", "/workers"));

  it("filters by state and search, and keeps both in the address", async () => {
    show(CREW);
    await userEvent.click(await screen.findByRole("button", { name: "Idle 1" }));
    expect(rows()).toEqual(["w-2"]);
    expect(location.search).toBe("?state=IDLE");
    expect(screen.getByText("1 of 3 workers")).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Idle 1" }));
    await userEvent.type(screen.getByRole("searchbox"), "w-3");
    expect(rows()).toEqual(["w-3"]);
    expect(location.search).toBe("?q=w-3");
  });

  it("sorts by a header, what is unknown last, and keeps that in the address", async () => {
    show(CREW);
    await userEvent.click(await screen.findByRole("button", { name: "Rank" }));
    await userEvent.click(screen.getByRole("button", { name: "Rank" }));
    expect(rows()).toEqual(["w-2", "w-1", "w-3"]);
    expect(location.search).toBe("?sort=-rank");
  });

  it("opens a worker with its own address, its story, and a link to its lines", async () => {
    const told = story(CREW[0] as Worker, { shards: { images: 3 }, stacks: "File train.py, line 4", stacks_at: 0 });
    show(CREW, { "/api/workers/w-1": told });
    await userEvent.click(await screen.findByText("w-1"));
    expect(location.pathname).toBe("/workers/w-1");
    const drawer = await screen.findByRole("complementary", { name: "w-1" });
    expect(await within(drawer).findByText("File train.py, line 4")).toBeTruthy();
    expect(within(drawer).getByRole("link", { name: "3 shards" }).getAttribute("href")).toBe("/data/images");
    expect(within(drawer).getByRole("link", { name: "All lines of w-1" }).getAttribute("href")).toBe(
      "/logs?source=w-1",
    );
    expect(within(drawer).getByText(/does not report where its time goes/)).toBeTruthy();
  });

  it("opens a lost worker by its link, with the reason", async () => {
    history.replaceState(null, "", "/workers/w-3");
    show(CREW, { "/api/workers/w-3": story(CREW[2] as Worker) });
    const drawer = await screen.findByRole("complementary", { name: "w-3" });
    expect(within(drawer).getByText(/Given up: no message for 3 s/)).toBeTruthy();
    expect(within(drawer).getByText("Failed")).toBeTruthy();
  });

  it("says in the API's own words that there is no such worker", async () => {
    history.replaceState(null, "", "/workers/w-9");
    show(CREW);
    const drawer = await screen.findByRole("complementary", { name: "w-9" });
    expect(await within(drawer).findByText("There is no such worker")).toBeTruthy();
    expect(within(drawer).getByText(/no answer for \/api\/workers\/w-9/)).toBeTruthy();
  });

  it("says how a worker comes about where there is none", async () => {
    show([]);
    expect(await screen.findByText("No worker has joined yet")).toBeTruthy();
  });
});
