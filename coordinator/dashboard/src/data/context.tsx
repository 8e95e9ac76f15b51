// Hands the client and the live state to the components, and the parts of the state that they select.
import { createContext, type ReactNode, use, useCallback, useRef, useSyncExternalStore } from "react";
import type { Dashboard } from "~/api/types";
import type { ApiClient } from "./client";
import type { LiveState } from "./dashboard";
import type { Recent } from "./fold";
import type { LiveConnection, LiveStatus } from "./live";

export interface Sources {
  client: ApiClient;
  live: LiveConnection<LiveState>;
  /** True in the demo mode of the development server; a served demo says so in its state. */
  simulated: boolean;
}

const SourcesContext = createContext<Sources | null>(null);

export function SourcesProvider({ sources, children }: { sources: Sources; children: ReactNode }) {
  return <SourcesContext value={sources}>{children}</SourcesContext>;
}

function useSources(): Sources {
  const sources = use(SourcesContext);
  if (sources === null) throw new Error("a component of the dashboard stands outside of <SourcesProvider>");
  return sources;
}

export const useClient = (): ApiClient => useSources().client;

export const useLiveConnection = (): LiveConnection<LiveState> => useSources().live;

/** True when anything on the page is simulated. */
export function useSimulated(): boolean {
  const { simulated } = useSources();
  return useDashboard((state) => state?.coordinator.simulated === true) || simulated;
}

/**
 * A part of the live state; the component draws anew only when this part is another object or value. The state is null
 * before the first answer. A selector that makes a new object each time belongs into `useMemo` over smaller parts.
 */
export function useDashboard<T>(select: (state: Dashboard | null) => T): T {
  const { live } = useSources();
  return useSyncExternalStore(live.subscribe, () => select(live.getState()?.dashboard ?? null));
}

/** One key of the dashboard; undefined before the first answer. */
export function useSlice<K extends keyof Dashboard>(key: K): Dashboard[K] | undefined {
  return useDashboard((state) => state?.[key]);
}

type RowKey = "workers" | "datasets" | "checkpoints" | "barriers" | "tasks";

/** One row by its id; undefined where there is none. */
export function useRow<K extends RowKey>(key: K, id: string | null): Dashboard[K][number] | undefined {
  return useDashboard((state) => state?.[key].find((row) => row.id === id));
}

export interface Connection {
  /** Of what the page shows: true now, the last known, not there yet, or not reachable at all. */
  source: "live" | "stale" | "waiting" | "offline";
  /** Since when it is not live, Unix milliseconds; null where that is not known. */
  since: number | null;
}

/** Whether what the page shows is true now. */
export function useConnection(): Connection {
  const phase = useLiveStatus((status) => status.phase);
  const heardAt = useLiveStatus((status) => status.heardAt);
  const told = useDashboard((state) => state?.coordinator.source ?? "waiting");
  const since = useDashboard((state) => state?.coordinator.since ?? null);
  if (phase !== "live") return { source: heardAt === null ? "waiting" : "offline", since: heardAt };
  return { source: told, since: told === "live" ? null : since };
}

const NO_POINTS: Recent = {};

/** The points that live messages have brought since the last snapshot. */
export function useRecent(): Recent {
  const { live } = useSources();
  return useSyncExternalStore(live.subscribe, () => live.getState()?.recent ?? NO_POINTS);
}

/** The same for the connection's status. */
export function useLiveStatus<T>(select: (status: LiveStatus) => T): T {
  const { live } = useSources();
  return useSyncExternalStore(live.subscribe, () => select(live.getStatus()));
}

/** The newest value inside of event handlers and timers, without drawing anew for it. */
export function useLatest<T>(value: T): () => T {
  const latest = useRef(value);
  latest.current = value;
  return useCallback(() => latest.current, []);
}
