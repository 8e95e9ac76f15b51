// The simulated API of demo mode: answers requests and opens channels inside of the page, without any server.
//
// The page's address chooses what is shown: ?workers=1000, ?seed=7, ?hold=hang (abort, slow, lost, none, gone) keeps the
// demo in one state. Without them it is three workers, and one thing after the other goes wrong.
import type { LiveChanges, LiveSnapshot } from "~/api/types";
import type { ChannelHandlers, Transport } from "~/data/transport";
import { type Hold, TROUBLES } from "./incidents";
import { answer, type Feed } from "./routes";
import { changesOf, snapshotOf } from "./state";
import { type Options, World } from "./world";

const TICK_MS = 250;
const WORKERS = 3;
const WORKERS_MAX = 2_000;

const isHold = (text: string): text is Hold => ["none", "gone", ...TROUBLES].includes(text);

/** What the query of the page's address asks for; what it cannot mean is left at its usual value. */
export function readOptions(search: string, now: number): Options {
  const query = new URLSearchParams(search);
  const number = (name: string, most: number, otherwise: number) => {
    const value = Number(query.get(name) ?? otherwise);
    return Number.isInteger(value) && value >= 1 ? Math.min(value, most) : otherwise;
  };
  const hold = query.get("hold") ?? "";
  return {
    seed: number("seed", 2 ** 31, 1),
    workers: number("workers", WORKERS_MAX, WORKERS),
    hold: isHold(hold) ? hold : null,
    now,
  };
}

/** One simulated API: a world, and those who listen to what changes in it. */
export class Simulation implements Feed {
  readonly world: World;
  readonly life: string;
  readonly #channels = new Set<ChannelHandlers>();
  #number = 0;
  #line: number;
  #event: number;
  #point: number;

  constructor(options: Options) {
    this.world = new World(options);
    this.life = `simulated-${options.seed}-${options.now}`;
    this.#line = this.world.journal.lines.next;
    this.#event = this.world.journal.events.next;
    this.#point = this.world.second;
  }

  tick(now: number): void {
    this.world.advance(now);
    this.flush();
  }

  readonly flush = (): number => {
    const { world, life } = this;
    const changes = changesOf(world, this.#line, this.#event);
    this.#line = world.journal.lines.next;
    this.#event = world.journal.events.next;
    this.#number += 1;
    const message: LiveChanges = {
      type: "changes",
      life,
      number: this.#number,
      at: world.now,
      changes,
      points: this.#points(),
    };
    if (this.#channels.size > 0) {
      const text = JSON.stringify(message);
      for (const handlers of [...this.#channels]) handlers.onMessage(text);
    }
    return this.#number;
  };

  #points(): Record<string, [number, number | null][]> {
    const { last } = this.world.series;
    if (last === null || this.world.second === this.#point) return {};
    this.#point = this.world.second;
    const at = this.world.startedAt + (this.world.second - 1) * 1000;
    return Object.fromEntries(Object.entries(last).map(([name, value]) => [name, [[at, value]]]));
  }

  join(handlers: ChannelHandlers): () => void {
    const opening = setTimeout(() => {
      handlers.onOpen();
      const number = this.flush();
      const state = snapshotOf(this.world, this.life, number);
      const message: LiveSnapshot = { type: "snapshot", life: this.life, number, state };
      handlers.onMessage(JSON.stringify(message));
      this.#channels.add(handlers);
    }, 0);
    return () => {
      clearTimeout(opening);
      this.#channels.delete(handlers);
    };
  }
}

export function createSimulatedTransport(): Transport {
  const simulation = new Simulation(readOptions(location.search, Date.now()));
  setInterval(() => simulation.tick(Date.now()), TICK_MS);
  return {
    simulated: true,
    channels: ["websocket"],
    fetch: (path, init) => answer(simulation, path, init),
    open: (_kind, _path, handlers) => {
      const leave = simulation.join(handlers);
      let open = true;
      return {
        close: () => {
          if (!open) return;
          open = false;
          leave();
          handlers.onClose("closed");
        },
      };
    },
  };
}
