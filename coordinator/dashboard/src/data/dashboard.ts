// What the live state is: the answer of /api/dashboard and how the stream's messages change it.

import type { ApiClient } from "./client";
import type { LiveProtocol } from "./live";

/** As much of it as the shell needs. */
export interface DashboardState {
  coordinator: { connected: boolean; since: number | null; job: string | null };
  simulated: boolean;
}

export function createProtocol(client: ApiClient): LiveProtocol<DashboardState> {
  return {
    paths: { websocket: "/api/live", sse: "/api/live/events" },
    read: () => null,
    fetchSnapshot: async (signal) => {
      const state = await client.get<DashboardState>("/api/dashboard", { signal });
      return { kind: "snapshot", stream: "", seq: 0, state };
    },
  };
}
