// The simulated function plane: tasks that come, run and end, workers that hold them, failures now and then.
import type { Functions, FunctionTask, FunctionWorker } from "~/api/types";
import type { Random } from "./random";
import { Rate, rounded } from "./statistics";

const TASKS_MAX = 500;
const WORKERS = 2;
const SLOTS = 4;

const FAILURES = [
  {
    type: "ValueError",
    message: "row 118 has 7 columns, and the header has 8",
    traceback:
      'Traceback (most recent call last):\n  File "/srv/app/features.py", line 41, in featurize\n' +
      "    values = parse(row)\n" +
      '  File "/srv/app/features.py", line 17, in parse\n' +
      '    raise ValueError(f"row {row.number} has {len(row)} columns, and the header has {width}")\n' +
      "ValueError: row 118 has 7 columns, and the header has 8\n",
    cause: "",
  },
  {
    type: "WorkerFailure",
    message: "the task has exceeded its deadline of 10 s",
    traceback: "",
    cause: "deadline",
  },
] as const;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class FunctionPlane {
  readonly #random: Random;
  readonly #tasks = new Map<string, Mutable<FunctionTask>>();
  readonly #ends = new Map<string, number>();
  readonly #startedAt: number;
  readonly #rates = { accepted: new Rate(), completed: new Rate(), failed: new Rate() };
  accepted = 0;
  completed = 0;
  failed = 0;
  #requeued = 0;
  #running: string[] = [];
  #waiting: string[] = [];
  #now: number;

  constructor(random: Random, at: number) {
    this.#random = random;
    this.#startedAt = at;
    this.#now = at;
  }

  /** Goes one second on; returns the tasks that failed in it. */
  second(at: number): FunctionTask[] {
    this.#now = at;
    const failed = this.#end(at);
    this.#accept(at);
    while (this.#running.length < WORKERS * SLOTS) {
      const id = this.#waiting.shift();
      if (id === undefined) break;
      this.#start(id, at);
    }
    for (const id of this.#tasks.keys()) {
      if (this.#tasks.size <= TASKS_MAX) break;
      if (!this.#ends.has(id) && !this.#waiting.includes(id)) this.#tasks.delete(id);
    }
    this.#rates.accepted.tell(this.accepted);
    this.#rates.completed.tell(this.completed);
    this.#rates.failed.tell(this.failed);
    return failed;
  }

  #accept(at: number): void {
    const wave = 1 + Math.sin((at - this.#startedAt) / 40_000);
    for (let more = this.#random.integer(0, Math.round(3 + 3 * wave)); more > 0; more -= 1) {
      const task_id = this.#random.uuid();
      this.accepted += 1;
      this.#waiting.push(task_id);
      this.#tasks.set(task_id, {
        task_id,
        status: "QUEUED",
        attempt: 0,
        submitted_at: at - this.#random.integer(0, 900),
        started_at: null,
        ended_at: null,
        worker: "",
        error_type: "",
        error_message: "",
        traceback: "",
        cause: "",
        stdout: "",
        stderr: "",
      });
    }
  }

  #start(id: string, at: number): void {
    const task = this.#tasks.get(id);
    if (task === undefined) return;
    task.status = "RUNNING";
    task.attempt += 1;
    task.started_at = at;
    task.worker = `function-worker-${this.#running.length % WORKERS}`;
    this.#running.push(id);
    this.#ends.set(id, at + this.#random.integer(300, 2_600));
  }

  #end(at: number): FunctionTask[] {
    const failed: FunctionTask[] = [];
    const ended = this.#running.filter((id) => (this.#ends.get(id) ?? 0) <= at);
    for (const id of ended) {
      const task = this.#tasks.get(id);
      const endsAt = this.#ends.get(id) ?? at;
      this.#ends.delete(id);
      if (task === undefined) continue;
      if (this.#random.chance(0.01)) {
        // Its worker was lost: it is tried again, elsewhere.
        this.#requeued += 1;
        task.status = "QUEUED";
        this.#waiting.unshift(id);
        continue;
      }
      task.ended_at = endsAt;
      if (!this.#random.chance(0.03)) {
        task.status = "COMPLETED";
        task.stdout = `featurized ${this.#random.integer(200, 4_000)} rows\n`;
        this.completed += 1;
        continue;
      }
      const failure = FAILURES[this.#random.integer(0, FAILURES.length - 1)] ?? FAILURES[0];
      task.status = "FAILED";
      task.error_type = failure.type;
      task.error_message = failure.message;
      task.traceback = failure.traceback;
      task.cause = failure.cause;
      task.stderr = "warning: 2 columns are empty\n";
      this.failed += 1;
      failed.push({ ...task });
    }
    this.#running = this.#running.filter((id) => this.#ends.has(id));
    return failed;
  }

  get queued(): number {
    return this.#waiting.length;
  }

  get completedPerSecond(): number | null {
    return this.#rates.completed.perSecond;
  }

  get failedPerSecond(): number | null {
    return this.#rates.failed.perSecond;
  }

  task(id: string): FunctionTask | null {
    return this.#tasks.get(id) ?? null;
  }

  /** In the order of their acceptance. */
  tasks(): FunctionTask[] {
    return [...this.#tasks.values()];
  }

  row(): Functions {
    const running = this.#running.length;
    return {
      connected: true,
      address: "tcp://127.0.0.1:5555",
      since: this.#startedAt,
      mode: "pull",
      store: "sqlite",
      queued: this.#waiting.length,
      running,
      ended: this.#tasks.size - this.#waiting.length - running,
      slots: WORKERS * SLOTS,
      queued_bytes: this.#waiting.length * 2_048,
      result_bytes: this.completed * 310,
      accepted_total: this.accepted,
      completed_total: this.completed,
      failed_total: this.failed,
      cancelled_total: 0,
      requeued_total: this.#requeued,
      late_results: 0,
      accepted_per_s: rounded(this.#rates.accepted.perSecond),
      completed_per_s: rounded(this.#rates.completed.perSecond),
      failed_per_s: rounded(this.#rates.failed.perSecond),
      workers: Array.from({ length: WORKERS }, (_, place): FunctionWorker => {
        const held = this.#running.filter((id) => this.#tasks.get(id)?.worker === `function-worker-${place}`).length;
        return {
          id: String(place + 1),
          worker_id: `function-worker-${place}`,
          mode: "pull",
          python: "3.12",
          slots: SLOTS,
          held,
          running: held,
          retiring: false,
          stalled: false,
          moved_at: this.#now,
        };
      }),
    };
  }
}
