import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Checkpoint } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import { FILTERS, lastDurable, measureOf, median, newShare, passes, phaseParts, verifiedLook } from "./checkpoints";
import CheckpointsView from "./index";

function checkpoint(parts: Partial<Checkpoint> = {}): Checkpoint {
  return {
    id: "step-7",
    step: 7,
    epoch: 0,
    size: 1000,
    path: "",
    created_at: 0,
    worker_id: "w-0",
    status: "durable",
    kind: "FULL",
    world_size: 3,
    arrived: 3,
    missing: [],
    written_bytes: 250,
    durable_at: 2000,
    phases: { stage_s: 0.5, drain_s: 1, commit_s: 0.5, total_s: 2 },
    megabytes_per_s: 0.0005,
    tier: "near",
    verified: null,
    verified_at: null,
    reason: "",
    metrics: {},
    ...parts,
  };
}

describe("a checkpoint", () => {
  it("is never called verified or damaged before somebody has looked", () => {
    expect([true, false, null].map((verified) => verifiedLook(checkpoint({ verified })).word)).toEqual([
      "Verified",
      "Damaged",
      "Not verified",
    ]);
  });

  it("has the phases that were measured only", () => {
    const phases = { stage_s: 0, drain_s: null, commit_s: null, total_s: null };
    expect(phaseParts(checkpoint({ phases })).map(({ id, seconds }) => [id, seconds])).toEqual([["stage", 0]]);
    expect(measureOf(checkpoint({ phases }), "duration")).toBeNull();
  });

  it("is part new, where that was told", () => {
    expect(newShare(checkpoint())).toBe(0.25);
    expect(newShare(checkpoint({ written_bytes: null }))).toBeNull();
    expect(newShare(checkpoint({ size: 0 }))).toBeNull();
  });

  it("passes the filters that it belongs to", () => {
    const of = (parts: Partial<Checkpoint>) => FILTERS.filter((filter) => passes(checkpoint(parts), filter));
    expect(of({})).toEqual(["all", "durable", "unverified"]);
    expect(of({ verified: false })).toEqual(["all", "durable", "damaged"]);
    expect(of({ status: "aborted" })).toEqual(["all", "aborted"]);
  });

  it("that would be restored is the newest durable one", () => {
    const rows = [checkpoint({ id: "c", status: "writing" }), checkpoint({ id: "b" }), checkpoint({ id: "a" })];
    expect(lastDurable(rows)?.id).toBe("b");
  });

  it("has a median beside it that leaves out what was not measured", () => {
    expect([median([3, null, 1]), median([1, 2, 3]), median([null]), median([])]).toEqual([2, 2, null, null]);
  });
});

describe("the view", () => {
  let api: FakeApi;
  beforeEach(() => {
    history.replaceState(null, "", "/checkpoints");
    api = new FakeApi();
  });
  afterEach(() => api.sources.live.stop());

  const open = async (rows: Checkpoint[], path: string) => {
    history.replaceState(null, "", path);
    render(api.wrap(<CheckpointsView />));
    api.show(dashboardOf({ checkpoints: rows }));
    await screen.findByRole("grid");
  };

  it("says what makes one appear", async () => {
    render(api.wrap(<CheckpointsView />));
    api.show(dashboardOf());
    expect(await screen.findByText("save_checkpoint()")).toBeTruthy();
  });

  it("names the ranks that are awaited, each with a way to it", async () => {
    const writing = checkpoint({ status: "writing", arrived: 1, missing: ["w-1", "w-2"] });
    await open([writing], "/checkpoints/step-7");
    expect(screen.getByText("Awaited: 2 of 3 ranks")).toBeTruthy();
    expect(screen.getByRole("link", { name: "w-2" }).getAttribute("href")).toBe("/workers/w-2");
    expect(screen.queryByRole("button", { name: "Verify now" })).toBeNull();
  });

  it("verifies on request, and shows the API's own words when that is refused", async () => {
    await open([checkpoint()], "/checkpoints/step-7");
    await userEvent.click(screen.getByRole("button", { name: "Verify now" }));
    expect((await screen.findByRole("alert")).textContent).toContain("no answer for /api/checkpoints/step-7/verify");
    api.answers["/api/checkpoints/step-7/verify"] = checkpoint({ verified: false });
    await userEvent.click(screen.getByRole("button", { name: "Verify now" }));
    expect(await screen.findByText(/A checksum does not agree/)).toBeTruthy();
  });

  it("keeps its filters in the address", async () => {
    const rows = [checkpoint(), checkpoint({ id: "step-9", step: 9, status: "aborted", reason: "rank 1 was lost" })];
    await open(rows, "/checkpoints?show=aborted");
    expect(screen.getByText("9")).toBeTruthy();
    expect(screen.getByText("1 of 2 checkpoints")).toBeTruthy();
    await userEvent.click(screen.getByRole("radio", { name: /Durable/ }));
    expect(location.search).toBe("?show=durable");
  });
});
