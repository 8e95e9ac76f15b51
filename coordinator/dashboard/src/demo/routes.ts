// Answers requests about the simulated world as the API answers them about a real one: the same paths and refusals.
import type { CreateJob, LogLine, LogPage, Timeline, WorkerStory } from "~/api/types";
import { coordinatorOf, metricsOf } from "./figures";
import { PHASES } from "./fleet";
import { Refusal } from "./jobs";
import { STACKS } from "./stacks";
import { rowsOf, SETTINGS, snapshotOf } from "./state";
import type { Table } from "./touched";
import type { World } from "./world";

export interface Feed {
  readonly world: World;
  readonly life: string;
  /** The number of the last message, after everything that has happened was told. */
  flush: () => number;
}

interface Asked {
  feed: Feed;
  world: World;
  query: URLSearchParams;
  body: unknown;
  /** The part of the path that is an id. */
  id: string;
}

type Handler = (asked: Asked) => unknown;

const LEVELS: readonly LogLine["level"][] = ["debug", "info", "warning", "error"];
const VERIFY_MS = 1_200;

function number(query: URLSearchParams, name: string, least: number, most: number, otherwise: number): number {
  const text = query.get(name);
  if (text === null) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new Refusal(422, `${name} is ${JSON.stringify(text)}: give a whole number from ${least} to ${most}`);
  }
  return value;
}

const table =
  (name: Table): Handler =>
  ({ world }) =>
    rowsOf(world, name);

function found<T>(row: T | null | undefined, what: string, id: string): T {
  if (row === null || row === undefined) throw new Refusal(404, `there is no ${what} ${JSON.stringify(id)}`);
  return row;
}

function logPage(lines: readonly LogLine[], query: URLSearchParams): LogPage {
  const limit = number(query, "limit", 1, 10_000, 500);
  const before = number(query, "before", 0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  const least = LEVELS.indexOf((query.get("level") ?? "debug") as LogLine["level"]);
  const source = query.get("source") ?? "";
  const search = (query.get("search") ?? "").toLowerCase();
  const wanted = lines.filter(
    (line) =>
      line.number < before &&
      LEVELS.indexOf(line.level) >= least &&
      (source === "" || line.source === source) &&
      (search === "" || line.message.toLowerCase().includes(search)),
  );
  const shown = wanted.slice(-limit);
  return {
    lines: shown,
    before: wanted.length > shown.length ? (shown[0]?.number ?? null) : null,
    sources: [...new Set(lines.map((line) => line.source))].sort(),
  };
}

function story({ world, id }: Asked): WorkerStory {
  const worker = found(world.rows.get(id), "worker", id);
  const hang = world.hangs.find((one) => one.worker_id === id);
  return {
    worker,
    events: world.journal.events.all().filter((event) => event.worker_id === id),
    stacks: hang?.stacks_at == null ? "" : STACKS,
    stacks_at: hang?.stacks_at ?? null,
    shards: world.data.shardsByDataset(id),
    logs: world.journal.lines
      .all()
      .filter((line) => line.source === id)
      .slice(-200),
  };
}

/** The seconds that a query asks for: how many, and the second behind the last one. */
function span(world: World, query: URLSearchParams): { seconds: number; end: number; start: number } {
  const seconds = number(query, "seconds", 1, 3_600, 300);
  const until = number(query, "end", 0, 2 ** 53, world.now);
  const end = Math.max(0, Math.min(world.second, Math.ceil((until - world.startedAt) / 1000)));
  return { seconds, end, start: world.startedAt + (end - seconds) * 1000 };
}

function timeline({ world, query }: Asked): Timeline {
  const { seconds, end, start } = span(world, query);
  const offset = number(query, "offset", 0, 1_000_000, 0);
  const limit = number(query, "limit", 1, 1_000, 100);
  const search = (query.get("search") ?? "").toLowerCase();
  const members = world.members.filter((member) => member.id.toLowerCase().includes(search));
  const absent = PHASES.indexOf("absent");
  const known = world.second - 3_600;
  const rows = members.slice(offset, offset + limit).map((member) => {
    const runs: [number, number][] = [];
    for (let second = end - seconds; second < end; second += 1) {
      const phase = second < Math.max(0, known) ? absent : (member.painted[second % 3_600] ?? absent);
      const last = runs.at(-1);
      if (last?.[0] === phase) last[1] += 1;
      else runs.push([phase, 1]);
    }
    return { worker_id: member.id, runs };
  });
  return {
    start,
    step_s: 1,
    steps: seconds,
    phases: PHASES,
    rows,
    releases: world.barriers.releases(start, start + seconds * 1000),
    total_workers: members.length,
  };
}

function taskPage({ world, query }: Asked) {
  const limit = number(query, "limit", 1, 1_000, 100);
  const state = query.get("state");
  const after = query.get("after");
  const all = world.functions.tasks();
  const from = after === null ? 0 : all.findIndex((task) => task.task_id === after) + 1;
  const wanted = all.slice(from).filter((task) => state === null || task.status === state);
  const tasks = wanted.slice(0, limit);
  return { tasks, next: wanted.length > tasks.length ? (tasks.at(-1)?.task_id ?? null) : null };
}

async function verify({ world, id }: Asked) {
  const row = found(
    world.checkpoints.rows().find((one) => one.id === id),
    "checkpoint",
    id,
  );
  if (row.status !== "durable") throw new Refusal(409, `${id} is ${row.status}: only a durable checkpoint can be read`);
  await new Promise((resolve) => setTimeout(resolve, VERIFY_MS));
  const verified = found(world.checkpoints.verify(id, world.now), "checkpoint", id);
  world.touched.row("checkpoints", id);
  return verified;
}

function createJob({ world, body }: Asked) {
  const job = world.jobs.create(body as CreateJob, world.now);
  world.touched.row("tasks", job.id);
  return { task_id: job.id };
}

function stopJob({ world, id }: Asked) {
  const job = world.jobs.stop(id);
  return { task_id: job.id, status: job.status };
}

function activity({ world, query }: Asked) {
  const kind = query.get("kind") ?? "";
  const subject = query.get("subject") ?? "";
  return world.journal.events
    .all()
    .filter((event) => kind === "" || event.kind === kind)
    .filter((event) => subject === "" || event.subject === subject || event.worker_id === subject)
    .slice(-number(query, "limit", 1, 10_000, 500));
}

/** Method and path; `*` stands for an id. */
const ROUTES: readonly (readonly [string, string, Handler])[] = [
  ["GET", "/api/dashboard", ({ feed, world }) => snapshotOf(world, feed.life, feed.flush())],
  [
    "GET",
    "/api/health",
    ({ world }) => ({
      status: world.gone ? "stale" : "ok",
      version: "0.1.0",
      simulated: true,
      stale_since: world.gone ? coordinatorOf(world).since : null,
      clients: 1,
    }),
  ],
  ["GET", "/api/status", ({ world }) => coordinatorOf(world)],
  ["GET", "/api/workers", table("workers")],
  ["GET", "/api/workers/*", story],
  ["GET", "/api/datasets", table("datasets")],
  ["GET", "/api/checkpoints", table("checkpoints")],
  ["POST", "/api/checkpoints/*/verify", verify],
  ["GET", "/api/barriers", table("barriers")],
  ["GET", "/api/metrics", ({ world }) => metricsOf(world)],
  [
    "GET",
    "/api/history",
    ({ world, query }) => {
      const { seconds, end, start } = span(world, query);
      return world.series.history(seconds, end, start);
    },
  ],
  ["GET", "/api/timeline", timeline],
  ["GET", "/api/activity", activity],
  ["GET", "/api/settings", () => SETTINGS],
  ["GET", "/api/functions", ({ world }) => world.functions.row()],
  ["GET", "/api/functions/tasks", taskPage],
  ["GET", "/api/functions/tasks/*", ({ world, id }) => found(world.functions.task(id), "task", id)],
  ["GET", "/api/jobs", table("tasks")],
  ["POST", "/api/jobs", createJob],
  ["GET", "/api/jobs/templates", ({ feed, world }) => snapshotOf(world, feed.life, 0).templates],
  ["POST", "/api/jobs/*/stop", stopJob],
  ["GET", "/api/jobs/*/logs", ({ world, query, id }) => logPage(world.jobs.lines(id).all(), query)],
  ["GET", "/api/logs", ({ world, query }) => logPage(world.journal.lines.all(), query)],
];

function matched(pattern: string, path: string): { id: string } | null {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  let id = "";
  for (const [place, part] of wanted.entries()) {
    const other = given[place] ?? "";
    if (part === "*") id = decodeURIComponent(other);
    else if (part !== other) return null;
  }
  return { id };
}

const json = (status: number, value: unknown) =>
  new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json" } });

/** The answer to one request. It never throws. */
export async function answer(feed: Feed, path: string, init: RequestInit): Promise<Response> {
  const url = new URL(path, "http://simulated");
  const method = init.method ?? "GET";
  for (const [verb, pattern, handle] of ROUTES) {
    const match = matched(pattern, url.pathname);
    if (verb !== method || match === null) continue;
    try {
      const body = typeof init.body === "string" ? JSON.parse(init.body) : null;
      const told = await handle({ feed, world: feed.world, query: url.searchParams, body, id: match.id });
      return json(verb === "POST" && pattern === "/api/jobs" ? 201 : 200, told);
    } catch (error) {
      if (error instanceof Refusal) return json(error.status, { detail: error.message, code: "REFUSED" });
      return json(500, { detail: `the simulator has failed: ${error}`, code: "INTERNAL" });
    }
  }
  return json(404, { detail: `the simulated API has no ${method} ${url.pathname}`, code: "NOT_FOUND" });
}
