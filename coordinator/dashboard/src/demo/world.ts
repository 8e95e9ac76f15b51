// The simulated job: what one seed makes of it, a quarter of a second at a time. It reads no clock; it is told the time.
import type { Hang, Worker } from "~/api/types";
import { Barriers } from "./barriers";
import { Checkpoints, type Turn } from "./checkpoints";
import { Data } from "./data";
import { goodputOf, metricsOf } from "./figures";
import { Member } from "./fleet";
import { FunctionPlane } from "./functions";
import { type Hold, heldAt, type Incident, incidentAt } from "./incidents";
import { Jobs } from "./jobs";
import { Journal } from "./journal";
import { Random } from "./random";
import { Series } from "./series";
import { STACKS } from "./stacks";
import { Rate, rounded } from "./statistics";
import { Touched } from "./touched";

/** How much has happened before the first look, and how much is caught up at most after a sleep. */
export const PAST_S = 600;
const TICK_MS = 250;
const TICKS = 4;
export const LEASE_S = 3;
const HANG_S = 8;
const GOODPUT_LEAST = 50;
const CHECKPOINT_EVERY_S = 30;
/** Fleets up to this many tell of themselves each second and have a log of their own; larger ones each five. */
const SMALL = 16;

export interface Options {
  seed: number;
  workers: number;
  /** A state in which the demo stays, to look at it in peace; null: one after the other. */
  hold: Hold | null;
  /** Unix milliseconds of now: the past is made up to it. */
  now: number;
}

export class World {
  readonly options: Options;
  readonly startedAt: number;
  readonly journal = new Journal();
  readonly touched = new Touched();
  readonly members: readonly Member[];
  readonly rows = new Map<string, Worker>();
  readonly data: Data;
  readonly barriers = new Barriers();
  readonly checkpoints: Checkpoints;
  readonly functions: FunctionPlane;
  readonly jobs: Jobs;
  readonly series = new Series();
  /** How often a worker tells of itself, in seconds. */
  readonly beatS: number;
  generation = 1;
  step = 0;
  /** Since when less than half of all time is spent training; null while it is more. */
  lowSince: number | null = null;
  /** How long the ranks waited for data in the last step, in seconds, rising. */
  dataWaits: readonly number[] = [];
  hangs: readonly Hang[] = [];
  /** The second that is under way, from the demo's begin. */
  second = 0;
  now: number;

  readonly #random: Random;
  readonly rates = { samples: new Rate(), requests: new Rate(), releases: new Rate(), bytes: new Rate() };
  #tick = 0;
  #requests = 0;
  #nextCheckpoint = CHECKPOINT_EVERY_S;
  #failing = false;
  /** Whom the others wait for: it has died, or it hangs. */
  #awaited: Member | null = null;
  #dead = false;
  #slow: Member | null = null;
  /** True in the second in which a generation begins. */
  #regrouping = false;
  #staging = false;

  constructor(options: Options) {
    this.options = options;
    this.#random = new Random(options.seed);
    this.startedAt = Math.floor(options.now / 1000) * 1000 - PAST_S * 1000;
    this.now = this.startedAt;
    this.beatS = options.workers <= SMALL ? 1 : 5;
    this.members = Array.from(
      { length: options.workers },
      (_, place) => new Member(place, options.workers, this.#random, this.startedAt),
    );
    this.data = new Data(options.workers, this.#random, this.startedAt);
    this.checkpoints = new Checkpoints(this.#random);
    this.functions = new FunctionPlane(new Random(options.seed + 1), this.startedAt);
    this.jobs = new Jobs(this.startedAt, options.workers);
    this.#event("term_started", "term 1 begins with an empty journal");
    for (const member of this.members) this.#event("worker_joined", `${member.id} joins`, { worker: member.id });
    this.#regroup([], []);
    this.#advanceBy(PAST_S * TICKS);
    for (const member of this.members) this.#tell(member);
    this.touched.clear();
  }

  /** Brings the demo up to `now`; a longer sleep than PAST_S is cut. */
  advance(now: number): void {
    const due = Math.floor((now - this.startedAt) / TICK_MS) - this.#tick;
    this.#advanceBy(Math.max(0, Math.min(due, PAST_S * TICKS)));
  }

  #advanceBy(ticks: number): void {
    for (let one = 0; one < ticks; one += 1) {
      this.#tick += 1;
      this.now = this.startedAt + this.#tick * TICK_MS;
      const live = this.#tick > (PAST_S - this.beatS) * TICKS;
      if (!this.gone) {
        if (this.#tick % TICKS === 0) this.#second();
        else if (this.#tick % TICKS === TICKS - 1 && this.#awaited === null) this.#arrive();
        this.#hear(live);
      }
      if (this.#tick % TICKS === 0) this.#notedSecond();
    }
  }

  /** True while the simulated coordinator is away. */
  get gone(): boolean {
    return this.options.hold === "gone" && this.second >= PAST_S - 1;
  }

  get ranked(): Member[] {
    return this.members.filter((member) => member.rank !== null);
  }

  #second(): void {
    const held = this.options.hold;
    const from = PAST_S - (held === "abort" ? 65 : 15);
    const incident = held === null ? incidentAt(this.second) : heldAt(this.second, held, from);
    if (this.members.length > 1) this.#play(incident);
    this.#failing = incident?.trouble === "abort";
    if (this.#awaited !== null) this.#wait(this.#awaited);
    else if (this.#regrouping) for (const member of this.members) this.#idle(member);
    else this.#train();
    this.#regrouping = false;
    this.#goOnWithCheckpoints();
    this.#goOnBeside();
    if (this.members.length <= SMALL && this.second % 10 === 0) this.#talk();
  }

  /** One second in which all ranks take a step and meet at its barrier. */
  #train(): void {
    const { ranked } = this;
    const worked: number[] = [];
    let longest = 0;
    const staged = this.#staging ? 0.55 : 0;
    const { samples, ended } = this.data.commit(ranked.length);
    const waits: number[] = [];
    // Now and then one waits long for its data, and the others for it.
    const stalled = this.#random.chance(0.06) ? ranked[this.#random.integer(0, ranked.length - 1)] : undefined;
    for (const member of ranked) {
      const data = member === stalled ? this.#random.between(0.5, 0.6) : this.#random.between(0.03, 0.09);
      const usual = this.#slow === null ? 0.8 + member.slowness : 0.36;
      const training =
        (staged > 0 || stalled !== undefined ? 0.4 : usual) +
        (member === this.#slow ? 0.5 : 0) +
        this.#random.between(-0.03, 0.03);
      worked.push(data, training);
      waits.push(data);
      longest = Math.max(longest, data + training);
    }
    let earliest = longest;
    for (let at = 0; at < worked.length; at += 2)
      earliest = Math.min(earliest, (worked[at] ?? 0) + (worked[at + 1] ?? 0));
    const arrivals = ranked.map((member, place) => {
      const data = worked[2 * place] ?? 0;
      const training = worked[2 * place + 1] ?? 0;
      const rest = Math.max(0, 1 - data - training - staged);
      const barrier = Math.min(longest - data - training + 0.008, rest);
      member.spend(this.second, [training, data, barrier, staged], samples);
      member.state = this.#staging
        ? "CHECKPOINTING"
        : this.second % 17 === member.beat % 17
          ? "LOADING_DATA"
          : "TRAINING";
      member.step = this.step + 1;
      member.epoch = this.data.epoch;
      member.progress += 1;
      member.movedAt = this.now;
      return { id: member.id, lateMs: 1000 * (data + training - earliest) };
    });
    this.dataWaits = waits.sort((a, b) => a - b);
    this.#staging = false;
    this.step += 1;
    this.#arrive(0);
    const row = this.barriers.end(this.now, arrivals, false);
    const last = row?.slowest[0]?.worker_id;
    const latest = this.members.find((member) => member.id === last);
    if (latest !== undefined) latest.lastAtBarriers += 1;
    if (row !== null) this.touched.row("barriers", row.id);
    this.#requests += ranked.length * 3;
    for (const member of this.members) if (member.rank === null) this.#idle(member);
    if (ended) this.#endEpoch();
  }

  /** One second in which nobody gets any further, since `awaited` does not come. */
  #wait(awaited: Member): void {
    const total = this.ranked.length;
    for (const member of this.members) {
      if (member === awaited && this.#dead) member.missed(this.second, "unknown");
      else if (member === awaited) member.spend(this.second, [0, 1, 0, 0], 0);
      else if (member.rank === null) this.#idle(member);
      else member.spend(this.second, [0, 0, 1, 0], 0);
    }
    this.#openBarrier(total - 1, [awaited.id]);
    this.#requests += total;
  }

  #idle(member: Member): void {
    if (member.lostReason === "") member.spend(this.second, [0, 0, 0, 0], 0);
    else member.missed(this.second, "lost");
  }

  /** Shows the barrier of the step that is under way, with some of its ranks. */
  #arrive(missing = Math.ceil(this.ranked.length / 3)): void {
    const ids = this.ranked.slice(this.ranked.length - missing).map((member) => member.id);
    this.#openBarrier(this.ranked.length - missing, missing === 0 ? [] : ids);
  }

  #openBarrier(arrived: number, missing: string[]): void {
    // One that is open keeps its name, though a worker has joined meanwhile.
    const { generation, step } = this.barriers.open ?? {
      generation: this.generation,
      step: this.step + (missing.length === 0 ? 0 : 1),
    };
    const row = { generation, step, at: this.now, arrived, total: arrived + missing.length, missing };
    this.touched.row("barriers", this.barriers.wait(row).id);
  }

  #endEpoch(): void {
    const { epoch } = this.data;
    this.data.advance();
    this.touched.section("certificates");
    this.#event("epoch", `epoch ${epoch} has ended: both datasets were seen whole; epoch ${epoch + 1} begins`);
  }

  #play(incident: Incident | null): void {
    if (incident === null) {
      this.#slow = null;
      return;
    }
    const victim = this.members[(incident.number * 7 + 1) % this.members.length];
    if (victim === undefined) return;
    const { trouble, age } = incident;
    if (trouble === "slow") {
      this.#slow = age < 24 ? victim : null;
      return;
    }
    if (trouble === "lost") {
      if (age === 0) this.#stop(victim, true);
      if (age === LEASE_S) this.#lose(victim, `no message within its lease of ${LEASE_S} s`);
      if (age === 14) this.#comeBack(victim);
    } else if (trouble === "hang") {
      if (age === 0) this.#stop(victim, false);
      if (age === HANG_S) this.#findHang(victim);
      if (age === HANG_S + 1) this.#hearStacks(victim);
      if (age === 24) this.#evict(victim);
      if (age === 34) this.#comeBack(victim);
    }
  }

  #stop(victim: Member, dead: boolean): void {
    this.#awaited = victim;
    this.#dead = dead;
    if (!dead) victim.state = "LOADING_DATA";
  }

  #lose(victim: Member, reason: string): void {
    const dead = this.#dead;
    victim.lostReason = reason;
    victim.task = null;
    victim.hanging = false;
    this.#event("worker_lost", `${victim.id} is given up: ${reason}`, { level: "error", worker: victim.id });
    const broken = this.barriers.end(this.now, [], true);
    if (broken !== null) {
      this.touched.row("barriers", broken.id);
      const text = `barrier ${broken.name} of step ${broken.step} breaks: ${victim.id} has not come`;
      this.#event("barrier_broken", text, { level: "warning", subject: broken.id });
    }
    this.#event("generation_broken", `generation ${this.generation} breaks: ${victim.id} has left it`, {
      level: "warning",
    });
    this.#turned(this.checkpoints.abort(this.now, `generation ${this.generation} has broken`));
    this.#awaited = null;
    this.#dead = false;
    victim.rank = null;
    if (dead) victim.missed(this.second, "lost");
    this.#tell(victim);
    this.#regroup([], [victim.id]);
  }

  #comeBack(victim: Member): void {
    victim.restart(this.#random, this.now);
    victim.task = "train";
    this.#event("worker_joined", `${victim.id} is back as a new process`, { worker: victim.id });
    this.#regroup([victim.id], []);
    this.#event("restored", `${victim.id} continues from the last commit point, step ${this.step}`, {
      worker: victim.id,
    });
  }

  #regroup(joined: string[], left: string[]): void {
    const members = this.members.filter((member) => member.lostReason === "");
    this.#regrouping = true;
    if (joined.length > 0 || left.length > 0) this.generation += 1;
    for (const [rank, member] of members.entries()) member.rank = rank;
    const ids = members.map((member) => member.id);
    this.data.assign(ids, { generation: this.generation, at: this.now, joined, left });
    for (const member of this.members) {
      member.shards = member.lostReason === "" ? this.data.shardsOf(member.id) : 0;
    }
    this.touched.section("rebalances");
    this.#event("generation", `generation ${this.generation} has ${members.length} members`);
  }

  #findHang(victim: Member): void {
    const waiters = this.ranked.filter((member) => member !== victim).map((member) => member.id);
    victim.hanging = true;
    this.hangs = [
      {
        worker_id: victim.id,
        rank: victim.rank,
        where: `barrier step of step ${this.step + 1}`,
        since: victim.movedAt,
        waiter_count: waiters.length,
        waiters: waiters.slice(0, 20),
        stacks: "",
        stacks_at: null,
      },
    ];
    this.touched.section("hangs");
    const text = `${victim.id} has not moved for ${HANG_S} s, and ${waiters.length} wait for it at step ${this.step + 1}`;
    this.#event("hang", text, { level: "error", worker: victim.id });
  }

  #hearStacks(victim: Member): void {
    this.hangs = this.hangs.map((hang) => ({ ...hang, stacks: STACKS, stacks_at: this.now }));
    this.touched.section("hangs");
    this.journal.line(this.now, "warning", victim.id, "stacks of 3 threads were asked for and told");
  }

  #evict(victim: Member): void {
    this.hangs = [];
    this.touched.section("hangs");
    this.#event("hang_evicted", `${victim.id} is taken out, so that the others go on`, {
      level: "error",
      worker: victim.id,
    });
    this.#lose(victim, "it hung for 24 s while others waited");
  }

  #goOnWithCheckpoints(): void {
    const ids = this.ranked.map((member) => member.id);
    if (this.#awaited === null) this.#turned(this.checkpoints.second(this.now, ids));
    if (this.checkpoints.writing !== null) this.touched.row("checkpoints", this.checkpoints.writing.id);
    if (this.second < this.#nextCheckpoint || this.#awaited !== null || this.checkpoints.writing !== null) return;
    this.#nextCheckpoint = this.second + CHECKPOINT_EVERY_S;
    this.#staging = true;
    this.#turned(this.checkpoints.begin(this.now, this.step, this.data.epoch, ids, this.loss, this.#failing));
  }

  #turned(turn: Turn | null): void {
    if (turn === null) return;
    const { kind, row } = turn;
    for (const one of this.checkpoints.rows()) this.touched.row("checkpoints", one.id);
    const subject = row.id;
    if (kind === "began") this.#event("checkpoint_began", `${row.id} of ${row.world_size} ranks begins`, { subject });
    else if (kind === "aborted") {
      this.#event("checkpoint_aborted", `${row.id} is given up: ${row.reason}`, { level: "warning", subject });
    } else {
      const megabytes = ((row.written_bytes ?? 0) / 1e6).toFixed(0);
      this.#event("checkpoint_durable", `${row.id} is durable: ${megabytes} MB in ${row.phases.total_s} s`, {
        subject,
      });
      this.journal.line(this.now, "info", "writer-0", `pack ${row.id}.0 closed`, { bytes: row.written_bytes });
    }
  }

  #goOnBeside(): void {
    for (const task of this.functions.second(this.now)) {
      this.journal.event(this.now, {
        kind: "task_failed",
        text: `task ${task.task_id.slice(0, 8)} has failed: ${task.error_type}: ${task.error_message}`,
        level: "warning",
        subject: task.task_id,
        origin: "dispatcher",
      });
    }
    for (const job of this.jobs.second(this.now)) this.touched.row("tasks", job.id);
  }

  /** What is told each second, whether the coordinator is there or not. */
  #notedSecond(): void {
    this.second += 1;
    for (const section of ["coordinator", "metrics", "goodput", "barrier_statistics", "functions", "alerts"] as const) {
      this.touched.section(section);
    }
    if (this.gone) return;
    for (const dataset of ["images", "captions"]) this.touched.row("datasets", dataset);
    this.rates.samples.tell(this.data.committedSamples);
    this.rates.requests.tell(this.#requests);
    this.rates.releases.tell(this.barriers.released);
    this.rates.bytes.tell(this.checkpoints.writtenBytes);
    const metrics = metricsOf(this);
    const { percent } = goodputOf(this);
    this.lowSince = (percent ?? 100) < GOODPUT_LEAST ? (this.lowSince ?? this.now) : null;
    const statistics = this.barriers.statistics(this.now, []);
    this.series.tell(this.second - 1, {
      samples_per_s: metrics.samples_per_s,
      checkpoint_megabytes_per_s: metrics.checkpoint_throughput,
      requests_per_s: metrics.coordinator_rps,
      barriers_per_s: metrics.barriers_per_s,
      barrier_p50_ms: statistics.wait_p50_ms,
      barrier_p99_ms: statistics.wait_p99_ms,
      skew_p50_ms: statistics.skew_p50_ms,
      skew_p99_ms: statistics.skew_p99_ms,
      goodput_percent: percent,
      active_workers: metrics.active_workers,
      failed_workers: metrics.failed_workers,
      queued_tasks: this.functions.queued,
      tasks_per_s: metrics.tasks_per_s,
      task_failures_per_s: rounded(this.functions.failedPerSecond),
    });
  }

  /** Heartbeats: every worker that lives tells of itself once in each `beatS`. */
  #hear(live: boolean): void {
    const every = this.beatS * TICKS;
    for (const member of this.members) {
      if (member.beat % every !== this.#tick % every || member.lostReason !== "") continue;
      if (member === this.#awaited && this.#dead) continue;
      member.heardAt = this.now;
      this.#requests += 1;
      if (live) this.#tell(member);
    }
  }

  #tell(member: Member): void {
    this.rows.set(member.id, member.row(this.#random, LEASE_S * 1000));
    this.touched.row("workers", member.id);
  }

  #talk(): void {
    for (const member of this.ranked) {
      const loss = (this.loss * (1 + this.#random.between(-0.02, 0.02))).toFixed(4);
      this.journal.line(this.now, "info", member.id, `step ${this.step}: loss ${loss}`, { step: this.step });
    }
    this.journal.line(this.now, "debug", "coordinator", `${this.ranked.length} leases renewed`, {
      generation: this.generation,
    });
    if (this.#slow !== null) {
      this.journal.line(this.now, "warning", this.#slow.id, "another process takes half of this host's cores");
    }
  }

  #event(
    kind: string,
    text: string,
    more: { level?: "info" | "warning" | "error"; subject?: string; worker?: string } = {},
  ): void {
    this.journal.event(this.now, { kind, text, ...more });
  }

  get loss(): number {
    return 0.35 + 2 * Math.exp(-this.step / 900);
  }
}
