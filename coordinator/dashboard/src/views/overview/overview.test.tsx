import { render, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it } from "vitest";
import type { Alert, Coordinator, Dashboard, Goodput, Worker } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import OverviewView from "./index";

const MARKUP = '<img src="x" onerror="document.title = `owned`">';

const goodput: Goodput = {
  window_s: 60,
  percent: null,
  training_share: null,
  data_share: null,
  barrier_share: null,
  checkpoint_share: null,
  lost_share: null,
  measured_workers: 0,
  workers: 1,
};
const coordinator = {
  connected: true,
  source: "live",
  simulated: false,
  pending: "",
  formed: true,
  generation: 1,
  world_size: 1,
  epoch: null,
  commit_index: null,
  uptime: null,
  since: null,
  job: null,
  address: "tcp://host:50051",
} as unknown as Coordinator;
const worker = { id: "w-1", status: "active", state: "TRAINING" } as Worker;

let api: FakeApi;
function show(parts: Partial<Dashboard>, answers: Record<string, unknown> = {}) {
  api = new FakeApi({ "/api/history": { start: 0, step_s: 1, series: {} }, ...answers });
  render(api.wrap(<OverviewView />));
  api.show(dashboardOf({ coordinator, goodput, workers: [worker], ...parts }));
}

describe("the overview", () => {
  afterEach(() => api.sources.live.stop());
  it("says what is not measured, and shows no zero for it", async () => {
    show({});
    const strip = await screen.findByRole("list", { name: "Health" });
    expect(within(strip).getByText("1 of 1 active")).toBeTruthy();
    expect(within(strip).getAllByText("no worker reports where its time goes").length).toBeGreaterThan(0);
    expect(within(strip).getByText("nothing could be restored")).toBeTruthy();
    expect(strip.textContent).not.toContain("0 %");
    expect(screen.getByText("Not measured: no worker reports where its time goes.")).toBeTruthy();
  });

  it("tells each alert with its way out and a link to what it is about", async () => {
    const alert: Alert = {
      id: "worker_lost/w-1",
      kind: "worker_lost",
      level: "error",
      text: "w-1 was given up.",
      way_out: "Start it again.",
      subject: "w-1",
      since: 0,
    };
    show({ alerts: [alert] });
    const list = await screen.findByRole("list", { name: "Alerts" });
    expect(within(list).getByText("Start it again.")).toBeTruthy();
    expect(within(list).getByText("Error")).toBeTruthy();
    expect(within(list).getByRole("link").getAttribute("href")).toBe("/workers/w-1");
  });

  it("shows markup in what workers send as the text that it is", async () => {
    const alert: Alert = {
      id: "a",
      kind: "hang",
      level: "error",
      text: `${MARKUP} does not move`,
      way_out: MARKUP,
      subject: MARKUP,
      since: 0,
    };
    show({ alerts: [alert], workers: [{ ...worker, state: MARKUP as Worker["state"] }] });
    const list = await screen.findByRole("list", { name: "Alerts" });
    expect(list.textContent).toContain(MARKUP);
    expect(document.querySelector("img")).toBeNull();
  });

  it("calls nothing well that was told before the coordinator fell silent", async () => {
    show({ coordinator: { ...coordinator, source: "stale", connected: false } });
    const strip = await screen.findByRole("list", { name: "Health" });
    expect(within(strip).getByText("1 of 1 active")).toBeTruthy();
    expect(strip.querySelector(".text-ok")).toBeNull();
  });

  it("says where it asks while no coordinator was heard, and how to start one", async () => {
    show({ coordinator: { ...coordinator, source: "waiting", connected: false } });
    expect(await screen.findByText("No coordinator has been heard yet")).toBeTruthy();
    expect(screen.getByText(/tcp:\/\/host:50051/)).toBeTruthy();
    expect(screen.getByText("strata run train.py")).toBeTruthy();
  });
});
