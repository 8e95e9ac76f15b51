// Keeps one state in step with the API's stream: snapshots, deltas by sequence number, gaps, back-off and staleness.
// It knows no field of the state and no form of a message: a LiveProtocol does.
import type { Channel, ChannelKind, Transport } from "./transport";

/** What one message does. Sequence numbers rise by one; `stream` names the sender's incarnation. */
export type LiveEvent<S> =
  | { kind: "snapshot"; stream: string; seq: number; state: S }
  | { kind: "delta"; stream: string; seq: number; apply: (state: S) => S }
  /** A sign of life that carries the last sequence number sent, so that a gap before a silence shows. */
  | { kind: "tick"; stream: string; seq: number };

export interface LiveProtocol<S> {
  /** The path of each kind of channel. */
  paths: Record<ChannelKind, string>;
  /** Reads one message; throws on one that it does not understand. Null for one that does nothing. */
  read: (text: string) => LiveEvent<S> | null;
  /** True when every channel begins with a snapshot of its own; else the first is fetched, too. */
  snapshotFirst: boolean;
  /** The state by request and answer: after every gap. */
  fetchSnapshot: (signal: AbortSignal) => Promise<LiveEvent<S> & { kind: "snapshot" }>;
}

export type LivePhase =
  /** No state yet. */
  | "connecting"
  /** The state is in step. */
  | "live"
  /** The last state is kept and shown as old. */
  | "stale";

export interface LiveStatus {
  phase: LivePhase;
  /** When the API was last heard, milliseconds since the epoch; null before the first time. */
  heardAt: number | null;
  via: ChannelKind | null;
  /** Why the last attempt failed, for a tooltip; null while all is well. */
  trouble: string | null;
  /** When the next attempt begins; null while one is under way or none is needed. */
  retryAt: number | null;
  gaps: number;
  /** How many snapshots were taken: a change means that something between two may have been missed. */
  epoch: number;
}

export interface LiveLimits {
  /** Silence after which the state is stale and the channel is opened anew. */
  silenceMs: number;
  retryFirstMs: number;
  retryMaxMs: number;
  /** Subscribers hear of changes at most this often, however many messages arrive. */
  publishMs: number;
  /** Deltas kept while a snapshot is on its way; more than this and it is fetched again. */
  pendingMax: number;
  /** Attempts without an opened channel after which the next kind is tried. */
  attemptsPerKind: number;
}

export const LIVE_LIMITS: LiveLimits = {
  silenceMs: 5_000,
  retryFirstMs: 500,
  retryMaxMs: 10_000,
  publishMs: 100,
  pendingMax: 2_000,
  attemptsPerKind: 2,
};

type Delta<S> = LiveEvent<S> & { kind: "delta" };
type Timer = ReturnType<typeof setTimeout>;

export class LiveConnection<S> {
  readonly #transport: Transport;
  readonly #protocol: LiveProtocol<S>;
  readonly #limits: LiveLimits;
  readonly #jitter: () => number;

  #state: S | null = null;
  #status: LiveStatus = {
    phase: "connecting",
    heardAt: null,
    via: null,
    trouble: null,
    retryAt: null,
    gaps: 0,
    epoch: 0,
  };
  readonly #subscribers = new Set<() => void>();

  #channel: Channel | null = null;
  /** Rises with every channel, so that a late word from an old one is not heard. */
  #incarnation = 0;
  #stream = "";
  #seq = -1;
  #pending: Delta<S>[] = [];
  #fetching: AbortController | null = null;
  #attempts = 0;
  #silence: Timer | null = null;
  #retry: Timer | null = null;
  #publishing: Timer | null = null;
  #running = false;

  constructor(
    transport: Transport,
    protocol: LiveProtocol<S>,
    limits: Partial<LiveLimits> = {},
    jitter: () => number = Math.random,
  ) {
    this.#transport = transport;
    this.#protocol = protocol;
    this.#limits = { ...LIVE_LIMITS, ...limits };
    this.#jitter = jitter;
  }

  /** The state, the same object until something has changed; null before the first snapshot. */
  readonly getState = (): S | null => this.#state;

  readonly getStatus = (): LiveStatus => this.#status;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#subscribers.add(listener);
    return () => this.#subscribers.delete(listener);
  };

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#open();
  }

  stop(): void {
    this.#running = false;
    this.#drop();
    if (this.#retry !== null) clearTimeout(this.#retry);
    if (this.#publishing !== null) clearTimeout(this.#publishing);
    this.#retry = null;
    this.#publishing = null;
  }

  /** Tries at once: for a button, and for a network that is back. */
  retryNow(): void {
    if (!this.#running || this.#retry === null) return;
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#open();
  }

  #open(): void {
    this.#drop();
    const mine = ++this.#incarnation;
    const heard = (handle: () => void) => {
      if (mine === this.#incarnation && this.#running) handle();
    };
    const kinds = this.#transport.channels;
    const kind = kinds[Math.floor(this.#attempts / this.#limits.attemptsPerKind) % kinds.length];
    if (kind === undefined) return;
    this.#set({ retryAt: null });
    this.#watchSilence();
    this.#channel = this.#transport.open(kind, this.#protocol.paths[kind], {
      onOpen: () => heard(() => this.#opened(kind)),
      onMessage: (text) => heard(() => this.#message(text)),
      onClose: (reason) => heard(() => this.#failed(reason)),
    });
  }

  #opened(kind: ChannelKind): void {
    this.#set({ via: kind });
    this.#watchSilence();
    if (!this.#protocol.snapshotFirst) void this.#fetch();
  }

  #message(text: string): void {
    let event: LiveEvent<S> | null;
    try {
      event = this.#protocol.read(text);
    } catch (error) {
      // A message that is not understood may have changed anything: the state is fetched anew.
      this.#gap(error instanceof Error ? error.message : String(error));
      return;
    }
    this.#watchSilence();
    this.#set({ heardAt: Date.now() });
    if (event === null) return;
    if (event.kind === "snapshot") this.#adopt(event);
    else if (this.#fetching !== null) this.#keep(event);
    else if (this.#state === null || event.stream !== this.#stream) this.#gap("the sender has restarted");
    else if (event.kind === "tick") {
      if (event.seq > this.#seq) this.#gap(`${event.seq - this.#seq} messages are missing`);
    } else this.#apply(event);
  }

  #keep(event: LiveEvent<S>): void {
    if (event.kind !== "delta") return;
    this.#pending.push(event);
    if (this.#pending.length > this.#limits.pendingMax) this.#gap("more messages than fit while the state was fetched");
  }

  #apply(event: Delta<S>): void {
    if (event.seq <= this.#seq || this.#state === null) return;
    if (event.seq !== this.#seq + 1) {
      this.#gap(`${event.seq - this.#seq - 1} messages are missing`);
      this.#keep(event);
      return;
    }
    this.#seq = event.seq;
    this.#state = event.apply(this.#state);
    this.#set({ phase: "live", trouble: null });
  }

  #adopt(snapshot: LiveEvent<S> & { kind: "snapshot" }): void {
    this.#fetching?.abort();
    this.#fetching = null;
    this.#stream = snapshot.stream;
    this.#seq = snapshot.seq;
    this.#state = snapshot.state;
    this.#attempts = 0;
    this.#set({ phase: "live", trouble: null, heardAt: Date.now(), epoch: this.#status.epoch + 1 });
    const pending = this.#pending;
    this.#pending = [];
    for (const event of pending) {
      // A new gap keeps what is left for the next snapshot.
      if (this.#fetching !== null) this.#keep(event);
      else if (event.stream === this.#stream) this.#apply(event);
    }
  }

  #gap(trouble: string): void {
    this.#set({ gaps: this.#status.gaps + 1, trouble });
    void this.#fetch();
  }

  async #fetch(): Promise<void> {
    this.#fetching?.abort();
    this.#pending = [];
    const fetching = new AbortController();
    this.#fetching = fetching;
    try {
      const snapshot = await this.#protocol.fetchSnapshot(fetching.signal);
      if (this.#fetching === fetching) this.#adopt(snapshot);
    } catch (error) {
      if (this.#fetching !== fetching) return;
      this.#fetching = null;
      this.#failed(error instanceof Error ? error.message : String(error));
    }
  }

  #failed(trouble: string): void {
    this.#drop();
    this.#attempts += 1;
    const { retryFirstMs, retryMaxMs } = this.#limits;
    const longest = Math.min(retryMaxMs, retryFirstMs * 2 ** Math.min(this.#attempts - 1, 16));
    // Between half and all of it: many pages that lost one API do not come back in one moment.
    const wait = longest * (0.5 + this.#jitter() / 2);
    this.#set({
      phase: this.#state === null ? "connecting" : "stale",
      via: null,
      trouble,
      retryAt: Date.now() + wait,
    });
    this.#retry = setTimeout(() => {
      this.#retry = null;
      this.#open();
    }, wait);
  }

  #drop(): void {
    this.#incarnation += 1;
    this.#fetching?.abort();
    this.#fetching = null;
    this.#pending = [];
    if (this.#silence !== null) clearTimeout(this.#silence);
    this.#silence = null;
    this.#channel?.close();
    this.#channel = null;
  }

  #watchSilence(): void {
    if (this.#silence !== null) clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#failed("the API is silent"), this.#limits.silenceMs);
  }

  #set(change: Partial<LiveStatus>): void {
    this.#status = { ...this.#status, ...change };
    this.#publishing ??= setTimeout(() => {
      this.#publishing = null;
      for (const listener of this.#subscribers) listener();
    }, this.#limits.publishMs);
  }
}
