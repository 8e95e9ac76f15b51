// The simulated barriers: the one that is open, those that ended, how late who came, and their figures.
import type { Barrier, BarrierStatistics, LateWorker, Release } from "~/api/types";
import { percentile, rounded } from "./statistics";

const ENDED_MAX = 256;
const RELEASES_MAX = 3_600;
const NAMED_MAX = 20;
const SLOWEST = 4;
const WINDOW_S = 60;

export interface Arrivals {
  id: string;
  lateMs: number;
}

export class Barriers {
  open: Barrier | null = null;
  released = 0;
  #ended: Barrier[] = [];
  #releases: Release[] = [];

  /** Opens the barrier of a step, or tells how many have arrived. */
  wait(row: {
    generation: number;
    step: number;
    at: number;
    arrived: number;
    total: number;
    missing: string[];
  }): Barrier {
    const { generation, step, at, arrived, total, missing } = row;
    const id = `${generation}/step/${step}`;
    this.open = {
      id,
      name: "step",
      arrived,
      total,
      status: "waiting",
      created_at: this.open?.id === id ? this.open.created_at : at,
      step,
      generation,
      commit: true,
      broken: false,
      ended_at: null,
      wait_ms: null,
      skew_p50_ms: null,
      skew_p90_ms: null,
      skew_p99_ms: null,
      skew_max_ms: null,
      slowest: [],
      missing: missing.slice(0, NAMED_MAX),
    };
    return this.open;
  }

  /** Ends the open barrier; returns its row. `arrivals` are those that came, in any order. */
  end(at: number, arrivals: readonly Arrivals[], broken: boolean): Barrier | null {
    const { open } = this;
    if (open === null) return null;
    const late = Float64Array.from(arrivals, (one) => one.lateMs).sort();
    const most = late.at(-1) ?? null;
    const least = late.at(-SLOWEST) ?? late[0] ?? 0;
    const slowest: LateWorker[] = arrivals
      .filter((one) => !broken && one.lateMs >= least)
      .sort((a, b) => b.lateMs - a.lateMs)
      .slice(0, SLOWEST)
      .map((one) => ({ worker_id: one.id, late_ms: Number(one.lateMs.toFixed(2)) }));
    const waited = broken ? at - open.created_at : (most ?? 0) + 0.4;
    const row: Barrier = {
      ...open,
      status: "complete",
      broken,
      arrived: arrivals.length,
      ended_at: at,
      wait_ms: rounded(waited),
      skew_p50_ms: broken ? null : rounded(percentile(late, 0.5)),
      skew_p90_ms: broken ? null : rounded(percentile(late, 0.9)),
      skew_p99_ms: broken ? null : rounded(percentile(late, 0.99)),
      skew_max_ms: broken ? null : rounded(most),
      slowest,
      missing: broken ? open.missing : [],
    };
    this.open = null;
    if (!broken) this.released += 1;
    this.#ended = [row, ...this.#ended].slice(0, ENDED_MAX);
    this.#releases.push({
      id: row.id,
      at,
      wait_ms: row.wait_ms ?? 0,
      skew_max_ms: row.skew_max_ms,
      broken,
      slowest,
    });
    if (this.#releases.length > 2 * RELEASES_MAX) this.#releases = this.#releases.slice(-RELEASES_MAX);
    return row;
  }

  rows(): Barrier[] {
    return this.open === null ? [...this.#ended] : [this.open, ...this.#ended];
  }

  releases(start: number, end: number): Release[] {
    return this.#releases.filter(({ at }) => at >= start && at < end);
  }

  statistics(now: number, last: readonly { worker_id: string; shards: number }[]): BarrierStatistics {
    const recent = this.#ended.filter((row) => !row.broken && (row.ended_at ?? 0) > now - WINDOW_S * 1000);
    const waits = recent.map((row) => row.wait_ms ?? 0).sort((a, b) => a - b);
    const skews = recent.map((row) => row.skew_max_ms ?? 0).sort((a, b) => a - b);
    return {
      window_s: WINDOW_S,
      count: recent.length,
      wait_p50_ms: percentile(waits, 0.5),
      wait_p99_ms: percentile(waits, 0.99),
      skew_p50_ms: percentile(skews, 0.5),
      skew_p99_ms: percentile(skews, 0.99),
      most_often_last: [...last].sort((a, b) => b.shards - a.shards).slice(0, NAMED_MAX),
    };
  }
}
