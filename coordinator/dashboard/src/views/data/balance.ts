// Whether the shards of a dataset are spread evenly: what each worker owns against the floor and the ceiling.
import type { Dataset, Rebalance, ShardShare, Worker } from "~/api/types";

export interface Balance {
  /** One for each member, and each other owner. */
  shares: readonly ShardShare[];
  owned: number;
  /** Shards that nobody owns now. */
  unowned: number;
  /** The least and the most that an even spread of the owned shards gives to one worker. */
  floor: number;
  ceiling: number;
  least: number;
  most: number;
  /** Workers outside of floor and ceiling. */
  outside: number;
}

/** Members that own nothing count, too: they are the ones that an uneven spread leaves out. */
export function balanceOf(dataset: Dataset, workers: readonly Worker[]): Balance | null {
  const owners = new Set(dataset.shards.map(({ worker_id }) => worker_id));
  const idle = workers.filter((worker) => worker.rank !== null && !owners.has(worker.id));
  const shares = [...dataset.shards, ...idle.map(({ id }) => ({ worker_id: id, shards: 0 }))];
  if (dataset.shards.length === 0) return null;
  const counts = shares.map(({ shards }) => shards);
  const owned = counts.reduce((sum, count) => sum + count, 0);
  const floor = Math.floor(owned / shares.length);
  const ceiling = Math.ceil(owned / shares.length);
  return {
    shares,
    owned,
    unowned: Math.max(0, dataset.shard_count - owned),
    floor,
    ceiling,
    least: counts.reduce((least, count) => Math.min(least, count), Number.POSITIVE_INFINITY),
    most: counts.reduce((most, count) => Math.max(most, count), 0),
    outside: counts.filter((count) => count < floor || count > ceiling).length,
  };
}

/** "8 or 9", or "8" where it divides. */
export function boundsText({ floor, ceiling }: Pick<Balance, "floor" | "ceiling">): string {
  return floor === ceiling ? String(floor) : `${floor} or ${ceiling}`;
}

/** How many workers hold how many shards, by rising number of shards. */
export function spread(shares: readonly ShardShare[]): readonly { shards: number; workers: number }[] {
  const counts = new Map<number, number>();
  for (const { shards } of shares) counts.set(shards, (counts.get(shards) ?? 0) + 1);
  return [...counts].map(([shards, workers]) => ({ shards, workers })).sort((a, b) => a.shards - b.shards);
}

/** Shards that were moved beyond what the change of membership made necessary. */
export function excessOf(rebalance: Rebalance): number {
  return Math.max(0, rebalance.moved - rebalance.lower_bound);
}

/** A part of one; an empty dataset is done. */
export function progressOf({ committed_samples, total_samples }: Dataset): number {
  return total_samples === 0 ? 1 : committed_samples / total_samples;
}
