// The simulated datasets: who owns which shards, how far the epoch is, what changes of membership moved.
import type { Certificate, Dataset, Rebalance, ShardShare } from "~/api/types";
import type { Random } from "./random";

const REBALANCES_MAX = 64;
const CERTIFICATES_MAX = 64;

interface Kind {
  id: string;
  name: string;
  format: string;
  path: string;
  perWorker: number;
  shardSize: number;
  /** Samples that one worker is handed in one step. */
  batch: number;
  metadata: Record<string, string>;
}

const KINDS: readonly Kind[] = [
  {
    id: "images",
    name: "images",
    format: "webdataset",
    path: "/data/images",
    perWorker: 23_040,
    shardSize: 512,
    batch: 256,
    metadata: { classes: "100", licence: "CC-BY-4.0" },
  },
  {
    id: "captions",
    name: "captions",
    format: "parquet",
    path: "s3://corpora/captions",
    perWorker: 5_760,
    shardSize: 256,
    batch: 64,
    metadata: { language: "en" },
  },
];

class Shelf {
  readonly kind: Kind;
  readonly total: number;
  readonly shards: number;
  committed = 0;
  readonly owned = new Map<string, number>();

  constructor(kind: Kind, workers: number) {
    this.kind = kind;
    this.total = kind.perWorker * workers;
    this.shards = Math.ceil(this.total / kind.shardSize);
  }
}

export class Data {
  readonly #shelves: readonly Shelf[];
  readonly #random: Random;
  readonly #at: number;
  epoch = 1;
  committedSamples = 0;
  rebalances: readonly Rebalance[] = [];
  certificates: readonly Certificate[] = [];

  constructor(workers: number, random: Random, at: number) {
    this.#shelves = KINDS.map((kind) => new Shelf(kind, workers));
    this.#random = random;
    this.#at = at;
  }

  /** Gives all shards to `members`, and notes what that moved. */
  assign(
    members: readonly string[],
    change: { generation: number; at: number; joined: string[]; left: string[] },
  ): void {
    let moved = 0;
    for (const shelf of this.#shelves) {
      const before = new Map(shelf.owned);
      const held = (id: string) => before.get(id) ?? 0;
      // As it is dealt in earnest: nobody owns two more than another, and who owns most keeps the larger part.
      const part = Math.floor(shelf.shards / members.length);
      const larger = new Set([...members].sort((a, b) => held(b) - held(a)).slice(0, shelf.shards % members.length));
      shelf.owned.clear();
      for (const id of members) {
        const count = part + (larger.has(id) ? 1 : 0);
        shelf.owned.set(id, count);
        if (before.size > 0) moved += Math.max(0, count - held(id));
      }
    }
    if (moved === 0) return;
    const { generation, at, joined, left } = change;
    const row: Rebalance = {
      generation,
      at,
      joined,
      left,
      joined_count: joined.length,
      left_count: left.length,
      moved,
      lower_bound: moved,
    };
    this.rebalances = [row, ...this.rebalances].slice(0, REBALANCES_MAX);
  }

  /** Commits one step of `members` workers; returns the samples of each, and true when the epoch has ended with it. */
  commit(members: number): { samples: number; ended: boolean } {
    let samples = 0;
    for (const shelf of this.#shelves) {
      const taken = Math.min(shelf.kind.batch * members, shelf.total - shelf.committed);
      shelf.committed += taken;
      this.committedSamples += taken;
      samples += taken / members;
    }
    return { samples, ended: this.#shelves.every((shelf) => shelf.committed === shelf.total) };
  }

  /** Certifies the epoch that has ended, and begins the next. */
  advance(): void {
    const ended: Certificate[] = this.#shelves.map((shelf) => ({
      dataset_id: shelf.kind.id,
      epoch: this.epoch,
      total_samples: shelf.total,
      samples: shelf.committed,
      checksum: BigInt(`0x${this.#random.hex(16)}`).toString(),
      complete: true,
    }));
    this.certificates = [...ended, ...this.certificates].slice(0, CERTIFICATES_MAX);
    for (const shelf of this.#shelves) shelf.committed = 0;
    this.epoch += 1;
  }

  shardsOf(id: string): number {
    return this.#shelves.reduce((sum, shelf) => sum + (shelf.owned.get(id) ?? 0), 0);
  }

  shardsByDataset(id: string): Record<string, number> {
    return Object.fromEntries(this.#shelves.map((shelf) => [shelf.kind.id, shelf.owned.get(id) ?? 0]));
  }

  rows(): Dataset[] {
    return this.#shelves.map(({ kind, total, shards, committed, owned }) => ({
      id: kind.id,
      name: kind.name,
      total_samples: total,
      shard_size: kind.shardSize,
      shard_count: shards,
      format: kind.format,
      shuffle: true,
      registered_at: this.#at,
      path: kind.path,
      seed: 42,
      epoch: this.epoch,
      committed_samples: committed,
      open_shards: Math.ceil((total - committed) / kind.shardSize),
      shards: [...owned].map(([worker_id, count]): ShardShare => ({ worker_id, shards: count })),
      metadata: kind.metadata,
    }));
  }
}
