// What the simulated processes have said: events, and lines of logs, each numbered. It knows nothing of what they mean.
import type { Event, LogLine } from "~/api/types";

const EVENTS_MAX = 2_000;
const LINES_MAX = 4_000;

/** A log that only grows, of which the last rows stay. */
export class Tail<T extends { readonly number: number }> {
  #rows: T[] = [];
  #next = 1;
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  add(make: (number: number) => T): void {
    this.#rows.push(make(this.#next++));
    // Cut now and then, not with each row.
    if (this.#rows.length > 2 * this.#most) this.#rows = this.#rows.slice(-this.#most);
  }

  /** The number that the next row gets. */
  get next(): number {
    return this.#next;
  }

  all(): readonly T[] {
    return this.#rows.slice(-this.#most);
  }

  /** The rows from `number` on. */
  from(number: number): readonly T[] {
    const count = this.#next - number;
    return count <= 0 ? [] : this.#rows.slice(-count);
  }
}

type Level = LogLine["level"];

export interface Happening {
  kind: string;
  text: string;
  level?: Level;
  subject?: string;
  worker?: string;
  origin?: Event["origin"];
}

export class Journal {
  readonly events = new Tail<Event>(EVENTS_MAX);
  readonly lines = new Tail<LogLine>(LINES_MAX);

  event(
    at: number,
    { kind, text, level = "info", subject = "", worker = "", origin = "coordinator" }: Happening,
  ): void {
    this.events.add((number) => ({ number, at, kind, level, text, subject, worker_id: worker, origin }));
    this.line(at, level, origin, text, { event: kind, ...(worker === "" ? {} : { worker_id: worker }) });
  }

  line(timestamp: number, level: Level, source: string, message: string, fields: LogLine["fields"] = {}): void {
    this.lines.add((number) => ({ number, timestamp, level, source, message, fields }));
  }
}
