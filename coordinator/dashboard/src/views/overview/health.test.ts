import { describe, expect, it } from "vitest";
import type { Alert, Checkpoint, Coordinator, Goodput, Worker } from "~/api/types";
import { alertHref, alertsVerdict, checkpointVerdict, goodputVerdict, workersVerdict } from "./health";
import { goodputShares } from "./Shares";

const alert = (kind: Alert["kind"], level: Alert["level"] = "warning", subject = ""): Alert => ({
  id: `${kind}/${subject}`,
  kind,
  level,
  text: `${kind} has happened`,
  way_out: "look",
  subject,
  since: 1,
});
const worker = (status: Worker["status"]) => ({ id: status, status }) as Worker;
const coordinator = (parts: Partial<Coordinator> = {}) =>
  ({ pending: "", formed: true, generation: 4, world_size: 2, need: 2, have: 2, ...parts }) as Coordinator;
const goodput = (parts: Partial<Goodput>): Goodput => ({
  window_s: 60,
  percent: null,
  training_share: null,
  data_share: null,
  barrier_share: null,
  checkpoint_share: null,
  lost_share: null,
  measured_workers: 0,
  workers: 2,
  ...parts,
});

describe("the health strip", () => {
  it("counts the active workers and says which generation they are", () => {
    const told = workersVerdict([worker("active"), worker("idle")], coordinator(), []);
    expect(told).toEqual({ tone: "ok", text: "1 of 2 active", detail: "generation 4, 2 ranks" });
  });

  it("warns of a failed worker, and takes the gravity of the alert about it", () => {
    const crew = [worker("active"), worker("failed")];
    expect(workersVerdict(crew, coordinator(), []).tone).toBe("warn");
    expect(workersVerdict(crew, coordinator(), [alert("worker_lost", "error")]).tone).toBe("danger");
    expect(workersVerdict(crew, coordinator(), []).detail).toBe("1 failed; generation 4, 2 ranks");
  });

  it("says for how many workers a job waits", () => {
    const told = workersVerdict([worker("idle")], coordinator({ pending: "too few", have: 1, need: 2 }), []);
    expect(told).toMatchObject({ tone: "warn", detail: "waits for workers: 1 of 2 are there" });
  });

  it("has no verdict about a goodput that nobody reports", () => {
    expect(goodputVerdict(goodput({}), [])).toBeNull();
    expect(goodputShares(goodput({}))).toEqual([]);
  });

  it("says of how many workers a goodput was measured", () => {
    const told = goodputVerdict(goodput({ percent: 40, measured_workers: 1 }), [alert("goodput_low")]);
    expect(told).toEqual({ tone: "warn", text: "40 %", detail: "1 of 2 workers report it" });
  });

  it("fills the shares of time up to the whole", () => {
    const shares = goodputShares(goodput({ training_share: 0.5, data_share: 0.25 }));
    expect(shares.map(({ id, text }) => [id, text])).toEqual([
      ["training", "50 %"],
      ["data", "25 %"],
      ["rest", "25 %"],
    ]);
  });

  it("tells what is durable and what is on its way", () => {
    const durable = { id: "b", status: "durable", step: 20, size: 1e6 } as Checkpoint;
    const writing = { id: "c", status: "writing", arrived: 1, world_size: 4 } as Checkpoint;
    expect(checkpointVerdict([], []).tone).toBe("neutral");
    expect(checkpointVerdict([writing, durable], []).detail).toBe("step 20, 1 MB; 1 of 4 ranks have written the next");
    expect(checkpointVerdict([durable], [alert("checkpoint_old")]).tone).toBe("warn");
  });

  it("counts errors before warnings and names the first alert", () => {
    expect(alertsVerdict([])).toMatchObject({ tone: "ok", text: "None" });
    const told = alertsVerdict([alert("hang", "error"), alert("worker_lost"), alert("goodput_low")]);
    expect(told).toEqual({ tone: "danger", text: "1 error, 2 warnings", detail: "hang has happened" });
  });

  it("leads from each alert to the place that tells more", () => {
    expect(alertHref(alert("hang", "error", "worker 1/a"))).toBe("/workers/worker%201%2Fa");
    expect(alertHref(alert("checkpoint_aborted", "warning", "c-7"))).toBe("/checkpoints/c-7");
    expect(alertHref(alert("barrier_slow", "warning", "1/step/5"))).toBe("/barriers");
    expect(alertHref(alert("goodput_low"))).toBe("/timeline");
  });
});
