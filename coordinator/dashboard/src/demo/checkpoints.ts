// The simulated checkpoints: staged, drained, durable, verified, or given up. It knows no worker but rank 0's name.
import type { Checkpoint } from "~/api/types";
import type { Random } from "./random";

const KEPT = 40;
/** The newest are near, those behind them only far. */
const NEAR = 4;
const BYTES_PER_WORKER = 96_000_000;
const STAGED_S = 1;
const DRAINED_S = 3;
const DURABLE_S = 4;

export type Turn = { kind: "began" | "durable" | "aborted"; row: Checkpoint };

export class Checkpoints {
  #rows: Checkpoint[] = [];
  #age = 0;
  #failing = false;
  writtenBytes = 0;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  get writing(): Checkpoint | null {
    const [newest] = this.#rows;
    return newest?.status === "writing" ? newest : null;
  }

  get lastDurableAt(): number | null {
    return this.#rows.find((row) => row.status === "durable")?.durable_at ?? null;
  }

  /** Newest first. */
  rows(): readonly Checkpoint[] {
    return this.#rows;
  }

  begin(at: number, step: number, epoch: number, ranks: readonly string[], loss: number, failing: boolean): Turn {
    const full = step % 4 === 0;
    const size = BYTES_PER_WORKER * ranks.length;
    this.#age = 0;
    this.#failing = failing;
    const id = `step-${String(step).padStart(8, "0")}`;
    const row: Checkpoint = {
      id,
      step,
      epoch,
      size,
      path: `s3://checkpoints/demo/${id}`,
      created_at: at,
      worker_id: ranks[0] ?? "",
      status: "writing",
      kind: full ? "FULL" : "INCREMENTAL",
      world_size: ranks.length,
      arrived: 0,
      missing: ranks.slice(0, 20),
      written_bytes: null,
      durable_at: null,
      phases: { stage_s: null, drain_s: null, commit_s: null, total_s: null },
      megabytes_per_s: null,
      tier: null,
      verified: null,
      verified_at: null,
      reason: "",
      metrics: { loss: Number(loss.toFixed(4)) },
    };
    this.#rows = [row, ...this.#rows.filter((one) => one.id !== id)];
    return { kind: "began", row };
  }

  /** Goes one second on; returns what has come of it. */
  second(at: number, ranks: readonly string[]): Turn | null {
    const row = this.writing;
    if (row === null) return null;
    this.#age += 1;
    if (this.#failing && this.#age >= DRAINED_S) {
      return this.abort(at, "writer-0 has not made 3 chunks durable within 2 s, and no other writer takes them");
    }
    if (this.#age >= DURABLE_S) return this.#commit(at, row);
    const arrived = Math.floor((ranks.length * Math.min(this.#age, DRAINED_S)) / (DRAINED_S + 0.5));
    this.#replace({
      ...row,
      arrived,
      missing: ranks.slice(arrived, arrived + 20),
      phases: { ...row.phases, stage_s: STAGED_S - 0.25 },
    });
    return null;
  }

  abort(at: number, reason: string): Turn | null {
    const row = this.writing;
    if (row === null) return null;
    const ended: Checkpoint = {
      ...row,
      status: "aborted",
      reason,
      phases: { ...row.phases, total_s: (at - row.created_at) / 1000 },
    };
    this.#replace(ended);
    return { kind: "aborted", row: ended };
  }

  #commit(at: number, row: Checkpoint): Turn {
    const share = row.kind === "FULL" ? 1 : this.#random.between(0.18, 0.34);
    const written = Math.round(row.size * share);
    const stage = Number(this.#random.between(0.18, 0.32).toFixed(3));
    const drain = Number((share * this.#random.between(2.2, 2.8)).toFixed(3));
    const commit = Number(this.#random.between(0.01, 0.05).toFixed(3));
    const total = stage + drain + commit;
    this.writtenBytes += written;
    const durable: Checkpoint = {
      ...row,
      status: "durable",
      arrived: row.world_size,
      missing: [],
      written_bytes: written,
      durable_at: at,
      phases: { stage_s: stage, drain_s: drain, commit_s: commit, total_s: Number(total.toFixed(3)) },
      megabytes_per_s: Number((row.size / 1e6 / total).toFixed(1)),
      tier: "near",
    };
    this.#replace(durable);
    const durables = this.#rows.filter((one) => one.status === "durable").map((one) => one.id);
    this.#rows = this.#rows.slice(0, KEPT).map((one) => {
      const place = durables.indexOf(one.id);
      if (place === NEAR) return { ...one, tier: "far" };
      // One in three is read again a while after, as `strata verify` from a timer would.
      return place === 2 && Math.floor(one.step / 30) % 3 === 0 ? { ...one, verified: true, verified_at: at } : one;
    });
    return { kind: "durable", row: durable };
  }

  verify(id: string, at: number): Checkpoint | null {
    const row = this.#rows.find((one) => one.id === id);
    if (row === undefined) return null;
    const verified = { ...row, verified: true, verified_at: at };
    this.#replace(verified);
    return verified;
  }

  #replace(row: Checkpoint): void {
    this.#rows = this.#rows.map((one) => (one.id === row.id ? row : one));
  }
}
