import { render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Certificate, Dataset } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import { balanceOf, boundsText, excessOf, progressOf, spread } from "./balance";
import { epochRows } from "./epochs";
import DatasetsView from "./index";

function dataset(parts: Partial<Dataset> = {}): Dataset {
  return {
    id: "train",
    name: "train",
    total_samples: 1000,
    shard_size: 100,
    shard_count: 10,
    format: "parquet",
    shuffle: true,
    registered_at: 0,
    path: "/data/train",
    seed: 1,
    epoch: 2,
    committed_samples: 250,
    open_shards: 8,
    shards: [
      { worker_id: "a", shards: 4 },
      { worker_id: "b", shards: 3 },
      { worker_id: "c", shards: 3 },
    ],
    metadata: {},
    ...parts,
  };
}
const certificate = (epoch: number, parts: Partial<Certificate> = {}): Certificate => ({
  dataset_id: "train",
  epoch,
  total_samples: 1000,
  samples: 1000,
  checksum: "7",
  complete: true,
  ...parts,
});

describe("the spread of shards", () => {
  it("is even when every worker has the floor or the ceiling", () => {
    expect(balanceOf(dataset(), 3)).toMatchObject({ owned: 10, unowned: 0, floor: 3, ceiling: 4, most: 4, outside: 0 });
  });

  it("counts those beside it, and shards without an owner", () => {
    const shards = [
      { worker_id: "a", shards: 6 },
      { worker_id: "b", shards: 2 },
      { worker_id: "c", shards: 0 },
    ];
    expect(balanceOf(dataset({ shards }), 3)).toMatchObject({ owned: 8, unowned: 2, floor: 2, ceiling: 3, outside: 2 });
  });

  it("claims nothing about owners that the API does not name", () => {
    expect(balanceOf(dataset({ shards: [{ worker_id: "a", shards: 1 }] }), 10)).toMatchObject({
      workers: 10,
      unowned: null,
      floor: 1,
      ceiling: 1,
    });
  });

  it("is nothing while nobody owns a shard", () => {
    expect(balanceOf(dataset({ shards: [] }), 3)).toBeNull();
  });

  it("is told in words and by size", () => {
    expect(boundsText({ floor: 3, ceiling: 4 })).toBe("3 or 4");
    expect(boundsText({ floor: 3, ceiling: 3 })).toBe("3");
    expect(spread(dataset().shards)).toEqual([
      { shards: 3, workers: 2 },
      { shards: 4, workers: 1 },
    ]);
  });

  it("has a rebalance's excess above the bound, never below it", () => {
    const moved = { generation: 2, at: 0, joined: [], left: [], joined_count: 0, left_count: 0 };
    expect(excessOf({ ...moved, moved: 13, lower_bound: 11 })).toBe(2);
    expect(excessOf({ ...moved, moved: 11, lower_bound: 11 })).toBe(0);
  });

  it("of an empty dataset is done", () => {
    expect(progressOf(dataset({ total_samples: 0, committed_samples: 0 }))).toBe(1);
    expect(progressOf(dataset())).toBe(0.25);
  });
});

describe("the ledger", () => {
  it("has the epoch that runs, then those with a certificate, newest first, of this dataset only", () => {
    const told = [
      certificate(0),
      certificate(1, { complete: false, samples: 990 }),
      certificate(5, { dataset_id: "other" }),
    ];
    expect(epochRows(dataset(), told).map(({ epoch, state }) => [epoch, state])).toEqual([
      [2, "running"],
      [1, "incomplete"],
      [0, "complete"],
    ]);
  });

  it("does not call an epoch running that has its certificate", () => {
    expect(epochRows(dataset(), [certificate(2)]).map(({ state }) => state)).toEqual(["complete"]);
  });
});

describe("the view", () => {
  let api: FakeApi;
  beforeEach(() => {
    api = new FakeApi();
  });
  afterEach(() => api.sources.live.stop());

  it("says what makes a dataset appear", async () => {
    history.replaceState(null, "", "/data");
    render(api.wrap(<DatasetsView />));
    api.show(dashboardOf());
    expect(await screen.findByText("register_dataset()")).toBeTruthy();
  });

  it("shows the dataset of the address", async () => {
    history.replaceState(null, "", "/data/val%2F1");
    render(api.wrap(<DatasetsView />));
    api.show(dashboardOf({ datasets: [dataset(), dataset({ id: "val/1", name: "val" })] }));
    expect(await screen.findByRole("heading", { name: "Shards of val" })).toBeTruthy();
    const shards = screen.getByRole("grid", { name: "Shards of val by worker" });
    expect(within(shards).getByRole("link", { name: "a" }).getAttribute("href")).toBe("/workers/a");
  });

  it("says so where the address names none", async () => {
    history.replaceState(null, "", "/data/gone");
    render(api.wrap(<DatasetsView />));
    api.show(dashboardOf({ datasets: [dataset()] }));
    expect(await screen.findByText("There is no such dataset")).toBeTruthy();
  });
});
