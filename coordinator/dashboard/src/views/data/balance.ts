// Whether the shards of a dataset are spread evenly: what each worker owns against the floor and the ceiling.
import type { Dataset, Rebalance, ShardShare } from "~/api/types";

export interface Balance {
  shares: readonly ShardShare[];
  /** Workers that the shards were dealt to: more than `shares`, where the API names only the first of them. */
  workers: number;
  owned: number;
  /** Shards that nobody owns now; null where the API does not name all owners. */
  unowned: number | null;
  /** The least and the most that an even spread gives to one worker. */
  floor: number;
  ceiling: number;
  most: number;
  /** Of the named workers, those outside of floor and ceiling. */
  outside: number;
}

/** `worldSize` is the number of members, where it is known. Members that own nothing are among the shares, too. */
export function balanceOf(dataset: Dataset, worldSize: number | null): Balance | null {
  const { shards: shares, shard_count } = dataset;
  if (shares.length === 0) return null;
  const counts = shares.map(({ shards }) => shards);
  const owned = counts.reduce((sum, count) => sum + count, 0);
  const workers = owned < shard_count ? Math.max(shares.length, worldSize ?? 0) : shares.length;
  const cut = workers > shares.length;
  const dealt = cut ? shard_count : owned;
  const floor = Math.floor(dealt / workers);
  const ceiling = Math.ceil(dealt / workers);
  return {
    shares,
    workers,
    owned,
    unowned: cut ? null : shard_count - owned,
    floor,
    ceiling,
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
