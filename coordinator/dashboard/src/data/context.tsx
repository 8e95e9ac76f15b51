// Hands the client and the live state to the components, and the parts of the state that they select.
import { createContext, type ReactNode, use, useCallback, useRef, useSyncExternalStore } from "react";
import type { ApiClient } from "./client";
import type { DashboardState } from "./dashboard";
import type { LiveConnection, LiveStatus } from "./live";

export interface Sources {
  client: ApiClient;
  live: LiveConnection<DashboardState>;
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

export const useLiveConnection = (): LiveConnection<DashboardState> => useSources().live;

/** True when anything on the page is simulated. */
export function useSimulated(): boolean {
  const { simulated } = useSources();
  return useDashboard((state) => state?.simulated === true) || simulated;
}

/**
 * A part of the live state; the component draws anew only when this part is another object or value. The state is null
 * before the first answer. A selector that makes a new object each time belongs into `useMemo` over smaller parts.
 */
export function useDashboard<T>(select: (state: DashboardState | null) => T): T {
  const { live } = useSources();
  return useSyncExternalStore(live.subscribe, () => select(live.getState()));
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
