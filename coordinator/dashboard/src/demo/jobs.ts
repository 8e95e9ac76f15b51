// The simulated jobs: the one that the demo shows, one that has ended, and those that are started on the page.
import type { CreateJob, Job, JobTemplate, LogLine } from "~/api/types";
import { Tail } from "./journal";

const RUNS_S = 60;
const LINES_MAX = 2_000;
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}$/;

export const TEMPLATES: readonly JobTemplate[] = [
  {
    type: "digits",
    description: "Digits, a small network",
    workers_max: 8,
    parameters: {
      epochs: "int from 1 to 100, default 3",
      learning_rate: "float from 0.0001 to 1, default 0.05",
      augment: "bool, default false",
    },
  },
  {
    type: "evaluate",
    description: "The last checkpoint on the test set",
    workers_max: 2,
    parameters: { split: "text of letters, default test" },
  },
];

export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

interface Run {
  row: Job;
  lines: Tail<LogLine>;
  stopping: boolean;
}

export class Jobs {
  readonly #runs = new Map<string, Run>();
  readonly #own: Job;

  constructor(at: number, workers: number) {
    this.#own = {
      id: "demo",
      name: "demo",
      type: "training",
      status: "running",
      dataset_id: "images",
      worker_count: workers,
      config: {},
      created_at: at,
      started_at: at,
      ended_at: null,
      exit_code: null,
      pid: null,
      origin: "coordinator",
      stoppable: false,
      message: "the job of this coordinator",
    };
    this.#add({ name: "first-look", type: "digits", dataset_id: "images", worker_count: 1, config: { epochs: 1 } }, at);
  }

  rows(): Job[] {
    return [this.#own, ...[...this.#runs.values()].map((run) => run.row)];
  }

  create(asked: CreateJob, at: number): Job {
    const template = TEMPLATES.find((one) => one.type === asked.type);
    if (template === undefined) {
      const types = TEMPLATES.map((one) => one.type).join(", ");
      throw new Refusal(
        404,
        `type is ${JSON.stringify(asked.type)}, and the allow-list has ${types}: name one of them`,
      );
    }
    if (!NAME.test(asked.name)) {
      throw new Refusal(422, "name takes A-Z a-z 0-9 _ . -, and begins with none of . -");
    }
    if ((asked.worker_count ?? 1) > template.workers_max) {
      throw new Refusal(
        422,
        `worker_count exceeds the ${template.workers_max} that ${template.type} may have: ask for less`,
      );
    }
    for (const name of Object.keys(asked.config ?? {})) {
      if (name in template.parameters) continue;
      const known = Object.keys(template.parameters).join(", ");
      throw new Refusal(422, `config has ${JSON.stringify(name)}, and ${template.type} takes ${known}: leave it out`);
    }
    return this.#add(asked, at);
  }

  #add(asked: CreateJob, at: number): Job {
    const id = `${asked.name}-${this.#runs.size + 1}`;
    const row: Job = {
      id,
      name: asked.name,
      type: asked.type,
      status: "pending",
      dataset_id: asked.dataset_id ?? "",
      worker_count: asked.worker_count ?? 1,
      config: { ...asked.config },
      created_at: at,
      started_at: null,
      ended_at: null,
      exit_code: null,
      pid: 5_000 + this.#runs.size,
      origin: "api",
      stoppable: true,
      message: "",
    };
    this.#runs.set(id, { row, lines: new Tail(LINES_MAX), stopping: false });
    return row;
  }

  stop(id: string): Job {
    if (id === this.#own.id) {
      throw new Refusal(409, "this is the simulated coordinator's own job: leave the page to end it");
    }
    const run = this.#find(id);
    if (run.row.ended_at !== null) throw new Refusal(409, `${id} has ended: there is nothing to stop`);
    run.stopping = true;
    return run.row;
  }

  lines(id: string): Tail<LogLine> {
    return id === this.#own.id ? new Tail(1) : this.#find(id).lines;
  }

  #find(id: string): Run {
    const run = this.#runs.get(id);
    if (run === undefined)
      throw new Refusal(404, `there is no job ${id}; there are ${[...this.#runs.keys()].join(", ")}`);
    return run;
  }

  /** Goes one second on; returns the jobs that have changed. */
  second(at: number): Job[] {
    const changed: Job[] = [];
    for (const run of this.#runs.values()) {
      const before = run.row;
      if (before.ended_at !== null) continue;
      run.row = this.#moved(run, at);
      if (run.row !== before) changed.push(run.row);
    }
    return changed;
  }

  #moved(run: Run, at: number): Job {
    const { row } = run;
    const say = (message: string) =>
      run.lines.add((number) => ({
        number,
        timestamp: at,
        level: "info",
        source: `${row.name}-0`,
        message,
        fields: {},
      }));
    if (run.stopping) {
      say("stopped: what was committed stays");
      return { ...row, status: "stopped", ended_at: at, exit_code: 0, message: "stopped on request", stoppable: false };
    }
    if (row.started_at === null) {
      say(`${row.worker_count} workers join demo`);
      return { ...row, status: "running", started_at: at };
    }
    const age = Math.round((at - row.started_at) / 1000);
    say(`step ${age}: loss ${(2.3 * Math.exp(-age / 40)).toFixed(4)}`);
    if (age < RUNS_S) return row;
    say("done");
    return { ...row, status: "completed", ended_at: at, exit_code: 0, stoppable: false };
  }
}
