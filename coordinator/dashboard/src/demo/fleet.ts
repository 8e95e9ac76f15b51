// The simulated workers: where each second of theirs goes, what they use, and their rows. It decides no incident.
import type { Phase, Worker } from "~/api/types";
import type { Random } from "./random";

export const PHASES: readonly Phase[] = [
  "unknown",
  "training",
  "data",
  "barrier",
  "checkpoint",
  "lost",
  "idle",
  "absent",
];
const PLACE = Object.fromEntries(PHASES.map((phase, place) => [phase, place])) as Record<Phase, number>;
/** How many seconds of phases are kept, and of how many the shares are told. */
export const HOUR_S = 3_600;
const WINDOW_S = 60;
const MEASURED = ["training", "data", "barrier", "checkpoint"] as const;
const MEASURED_PLACES = MEASURED.map((phase) => PLACE[phase]);
type Measured = (typeof MEASURED)[number];
const GIB = 2 ** 30;

/** How a second was spent: the shares of training, data, barrier and checkpoint. */
export type Shares = readonly [number, number, number, number];

export class Member {
  readonly id: string;
  readonly host: string;
  readonly gpus: number;
  rank: number | null;
  pid: number;
  incarnation: string;
  state: Worker["state"] = "TRAINING";
  task: string | null = "train";
  step = 0;
  epoch = 0;
  samples = 0;
  progress = 0;
  heardAt: number;
  movedAt: number;
  registeredAt: number;
  lastAtBarriers = 0;
  hanging = false;
  /** Empty while it is registered. */
  lostReason = "";
  shards = 0;
  /** A share of the usual speed: some hosts are a little slower than others. */
  readonly slowness: number;
  /** Its place in the row of heartbeats: not all of them come at one moment. */
  readonly beat: number;
  /** Of each second of the last hour the place of its phase. */
  readonly painted = new Uint8Array(HOUR_S);
  readonly #spent = new Float64Array(WINDOW_S * MEASURED.length);
  readonly #sums = new Float64Array(MEASURED.length);
  readonly #handed = new Float64Array(WINDOW_S);
  #seconds = 0;

  constructor(place: number, workers: number, random: Random, at: number) {
    const digits = Math.max(2, String(workers).length);
    this.id = `worker-${String(place + 1).padStart(digits, "0")}`;
    this.host = workers <= 16 ? `gpu-host-${place + 1}` : `gpu-host-${Math.floor(place / 8) + 1}`;
    this.gpus = place % 3 === 2 ? 0 : 1 + (place % 2);
    this.rank = place;
    this.pid = 4_000 + place;
    this.incarnation = random.hex(16);
    this.heardAt = at;
    this.movedAt = at;
    this.registeredAt = at;
    this.slowness = random.between(0, 0.06);
    this.beat = random.integer(0, 1_000_000);
    this.painted.fill(PLACE.absent);
  }

  /** Notes where second `second` went; it is painted with the phase that it mostly was in. */
  spend(second: number, shares: Shares, samples: number): void {
    const slot = (this.#seconds % WINDOW_S) * MEASURED.length;
    const whole = this.#seconds >= WINDOW_S;
    let most = PLACE.idle;
    let largest = 1 - shares.reduce((sum, share) => sum + share, 0);
    for (let index = 0; index < MEASURED.length; index += 1) {
      const share = shares[index] ?? 0;
      if (share > largest) {
        largest = share;
        most = MEASURED_PLACES[index] ?? most;
      }
      this.#sums[index] = (this.#sums[index] ?? 0) + share - (whole ? (this.#spent[slot + index] ?? 0) : 0);
      this.#spent[slot + index] = share;
    }
    this.paint(second, most);
    this.#handed[this.#seconds % WINDOW_S] = samples;
    this.samples += samples;
    this.#seconds += 1;
  }

  /** Colours a second in which it told nothing. */
  missed(second: number, phase: Phase): void {
    this.paint(second, PLACE[phase]);
  }

  paint(second: number, place: number): void {
    this.painted[second % HOUR_S] = place;
  }

  /** Begins anew, as a process does that was started again. */
  restart(random: Random, at: number): void {
    this.pid += 1_000;
    this.incarnation = random.hex(16);
    this.registeredAt = at;
    this.movedAt = at;
    this.lostReason = "";
    this.hanging = false;
    this.state = "RECOVERING";
    this.progress = 0;
    this.samples = 0;
    this.#seconds = 0;
    this.#spent.fill(0);
    this.#sums.fill(0);
    this.#handed.fill(0);
  }

  /** The share of its last minute that went into `phase`; null before it has told any. */
  share(phase: Measured): number | null {
    const seconds = Math.min(this.#seconds, WINDOW_S);
    return seconds === 0 ? null : Math.max(0, (this.#sums[MEASURED.indexOf(phase)] ?? 0) / seconds);
  }

  /** Samples a second, over the last ten. */
  get rate(): number | null {
    const seconds = Math.min(this.#seconds, 10);
    if (seconds === 0) return null;
    let sum = 0;
    for (let back = 1; back <= seconds; back += 1) sum += this.#handed[(this.#seconds - back) % WINDOW_S] ?? 0;
    return sum / seconds;
  }

  /** The row, as its last heartbeat left it. */
  row(random: Random, leaseMs: number): Worker {
    const lost = this.lostReason !== "";
    const busy = lost ? 0 : (this.share("training") ?? 0);
    const memory = Math.round((3.1 + 0.4 * this.slowness + random.between(0, 0.05)) * GIB);
    return {
      id: this.id,
      ip: this.host,
      port: 0,
      status: lost ? "failed" : this.state === "IDLE" || this.state === "INITIALIZING" ? "idle" : "active",
      gpu_count: this.gpus,
      last_heartbeat: this.heardAt,
      assigned_shards: this.shards,
      current_epoch: this.epoch,
      current_step: this.step,
      current_task: lost ? null : this.task,
      state: lost ? "FAILED" : this.state,
      rank: this.rank,
      pid: this.pid,
      incarnation: this.incarnation,
      progress: this.progress,
      moved_at: this.movedAt,
      registered_at: this.registeredAt,
      lease_ends_at: lost ? null : this.heardAt + leaseMs,
      memory_bytes: 64 * GIB,
      usage: lost
        ? null
        : {
            cpu_percent: Number((100 * (0.35 + 1.4 * busy) + random.between(0, 12)).toFixed(1)),
            memory_bytes: memory,
            gpu_percent: this.#perGpu(() => Number((96 * busy + random.between(0, 4)).toFixed(1))),
            gpu_memory_bytes: this.#perGpu((gpu) => Math.round((11.5 + gpu) * GIB)),
            gpu_celsius: this.#perGpu(() => Number((48 + 22 * busy + random.between(0, 2)).toFixed(1))),
            disk_read_bytes: this.samples * 150_000,
            disk_write_bytes: Math.round(this.samples * 2_400),
            network_sent_bytes: this.samples * 5_200,
            network_received_bytes: this.samples * 4_800,
          },
      samples: lost ? null : this.samples,
      samples_per_s: lost ? null : this.rate,
      training_share: lost ? null : this.share("training"),
      data_share: lost ? null : this.share("data"),
      barrier_share: lost ? null : this.share("barrier"),
      checkpoint_share: lost ? null : this.share("checkpoint"),
      last_at_barriers: this.lastAtBarriers,
      hanging: this.hanging,
      lost_reason: this.lostReason,
      metadata: { zone: `zone-${1 + (this.beat % 2)}`, image: "trainer:2.4" },
    };
  }

  #perGpu(value: (gpu: number) => number): number[] {
    return Array.from({ length: this.gpus }, (_, gpu) => value(gpu));
  }
}
