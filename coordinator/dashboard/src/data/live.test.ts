import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LiveConnection, type LiveEvent, type LiveProtocol } from "./live";
import type { ChannelHandlers, ChannelKind, Transport } from "./transport";

/** A state that is the list of what has been applied; a message is "stream seq". */
type State = readonly number[];

class World {
  readonly opened: { kind: ChannelKind; handlers: ChannelHandlers; closed: boolean }[] = [];
  readonly snapshots: { resolve: (seq: number, stream?: string) => void; reject: () => void }[] = [];
  readonly transport: Transport = {
    simulated: false,
    channels: ["websocket", "sse"],
    fetch: () => Promise.reject(new Error("unused")),
    open: (kind, _, handlers) => {
      const one = { kind, handlers, closed: false };
      this.opened.push(one);
      return {
        close: () => {
          one.closed = true;
        },
      };
    },
  };
  readonly protocol: LiveProtocol<State> = {
    paths: { websocket: "/ws", sse: "/sse" },
    snapshotFirst: false,
    read: (text): LiveEvent<State> => {
      const [kind, stream = "", number = ""] = text.split(" ");
      const seq = Number(number);
      if (kind === "tick") return { kind: "tick", stream, seq };
      if (kind !== "delta") throw new Error(`no such message: ${kind}`);
      return { kind: "delta", stream, seq, apply: (state) => [...state, seq] };
    },
    fetchSnapshot: () =>
      new Promise((resolve, reject) => {
        this.snapshots.push({
          resolve: (seq, stream = "a") => resolve({ kind: "snapshot", stream, seq, state: [seq] }),
          reject: () => reject(new Error("no snapshot")),
        });
      }),
  };
  readonly live = new LiveConnection(this.transport, this.protocol, {}, () => 1);

  get channel() {
    const last = this.opened.at(-1);
    if (last === undefined) throw new Error("no channel is open");
    return last;
  }
  async snapshot(seq: number, stream = "a"): Promise<void> {
    this.snapshots.at(-1)?.resolve(seq, stream);
    await vi.advanceTimersByTimeAsync(0);
  }
  say(...messages: string[]): void {
    for (const message of messages) this.channel.handlers.onMessage(message);
  }
}

let world: World;
beforeEach(() => {
  vi.useFakeTimers();
  world = new World();
  world.live.start();
  world.channel.handlers.onOpen();
});
afterEach(() => {
  world.live.stop();
  vi.useRealTimers();
});

describe("a stream without faults", () => {
  it("applies what was said while the snapshot was on its way, and nothing twice", async () => {
    world.say("delta a 4", "delta a 5", "delta a 6");
    await world.snapshot(5);
    world.say("delta a 6", "delta a 7");
    expect(world.live.getState()).toEqual([5, 6, 7]);
    expect(world.live.getStatus()).toMatchObject({ phase: "live", via: "websocket", gaps: 0 });
  });

  it("tells its subscribers once for many messages", async () => {
    await world.snapshot(0);
    await vi.advanceTimersByTimeAsync(200);
    let told = 0;
    world.live.subscribe(() => {
      told += 1;
    });
    for (let seq = 1; seq <= 500; seq += 1) world.say(`delta a ${seq}`);
    await vi.advanceTimersByTimeAsync(100);
    expect(told).toBe(1);
    expect(world.live.getState()).toHaveLength(501);
  });
});

describe("a gap", () => {
  it.each([
    ["in the numbers", "delta a 3"],
    ["that a tick reveals", "tick a 2"],
    ["behind a message that is not understood", "nonsense"],
    ["between two lives of the sender", "delta b 1"],
  ])("%s fetches the state anew", async (_, message) => {
    await world.snapshot(1);
    world.say(message);
    expect(world.snapshots).toHaveLength(2);
    await world.snapshot(9, "b");
    world.say("delta b 10");
    expect(world.live.getState()).toEqual([9, 10]);
    expect(world.live.getStatus()).toMatchObject({ phase: "live", gaps: 1 });
  });

  it("keeps the message that revealed it", async () => {
    await world.snapshot(1);
    world.say("delta a 3", "delta a 4");
    await world.snapshot(2);
    expect(world.live.getState()).toEqual([2, 3, 4]);
  });
});

describe("an API that is away", () => {
  it("leaves the last state, marked stale, and is found again by itself", async () => {
    await world.snapshot(1);
    world.channel.handlers.onClose("gone");
    expect(world.live.getStatus()).toMatchObject({ phase: "stale", trouble: "gone" });
    expect(world.live.getState()).toEqual([1]);
    await vi.advanceTimersByTimeAsync(500);
    world.channel.handlers.onOpen();
    await world.snapshot(2);
    expect(world.live.getStatus()).toMatchObject({ phase: "live", trouble: null, retryAt: null });
  });

  it("is stale when it says nothing for too long, though the channel is open", async () => {
    await world.snapshot(1);
    const first = world.channel;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(world.live.getStatus().phase).toBe("stale");
    expect(first.closed).toBe(true);
    first.handlers.onMessage("delta a 2");
    expect(world.live.getState()).toEqual([1]);
  });

  it("is asked less and less often, and by server-sent events when WebSockets do not open", async () => {
    const waits: number[] = [];
    for (let attempt = 0; attempt < 7; attempt += 1) {
      world.channel.handlers.onClose("refused");
      waits.push((world.live.getStatus().retryAt ?? 0) - Date.now());
      await vi.advanceTimersByTimeAsync(waits.at(-1) ?? 0);
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    expect(world.opened.slice(0, 5).map(({ kind }) => kind)).toEqual([
      "websocket",
      "websocket",
      "sse",
      "sse",
      "websocket",
    ]);
  });

  it("is asked at once when somebody says so", () => {
    world.channel.handlers.onClose("refused");
    world.live.retryNow();
    expect(world.opened).toHaveLength(2);
  });

  it("is asked again when it streams but has no snapshot", async () => {
    world.snapshots.at(-1)?.reject();
    await vi.advanceTimersByTimeAsync(0);
    expect(world.live.getStatus()).toMatchObject({ phase: "connecting", trouble: "no snapshot" });
    expect(world.channel.closed).toBe(true);
  });
});

it("nothing is heard after the end", async () => {
  await world.snapshot(1);
  world.live.stop();
  world.say("delta a 2");
  await vi.advanceTimersByTimeAsync(60_000);
  expect(world.live.getState()).toEqual([1]);
  expect(world.opened).toHaveLength(1);
});
