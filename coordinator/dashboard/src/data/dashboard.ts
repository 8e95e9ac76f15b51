// What the live state is: a dashboard, the points since the page was opened, and how the API's messages change them.
import type { Dashboard, LiveChanges, LiveSnapshot } from "~/api/types";
import type { ApiClient } from "./client";
import { appendPoints, applyChanges, type Recent } from "./fold";
import type { LiveEvent, LiveProtocol } from "./live";

export interface LiveState {
  readonly dashboard: Dashboard;
  /** The points of each series of /api/history that came with messages, oldest first. */
  readonly recent: Recent;
}

function snapshot(state: Dashboard): LiveEvent<LiveState> & { kind: "snapshot" } {
  return { kind: "snapshot", stream: state.life, seq: state.number, state: { dashboard: state, recent: {} } };
}

/** Reads one message of /api/live or /api/events; throws on one that is no such message. */
export function readMessage(text: string): LiveEvent<LiveState> {
  const message = JSON.parse(text) as LiveSnapshot | LiveChanges;
  if (message.type === "snapshot") return snapshot(message.state);
  if (message.type !== "changes") throw new Error("a live message that this page does not know: reload the page");
  const { life, number, at, changes, points = {} } = message;
  return {
    kind: "delta",
    stream: life,
    seq: number,
    apply: (state) => ({
      dashboard: applyChanges(state.dashboard, changes, number, at),
      recent: appendPoints(state.recent, points),
    }),
  };
}

export function createProtocol(client: ApiClient): LiveProtocol<LiveState> {
  return {
    paths: { websocket: "/api/live", sse: "/api/events" },
    snapshotFirst: true,
    read: readMessage,
    fetchSnapshot: async (signal) => snapshot(await client.get<Dashboard>("/api/dashboard", { signal })),
  };
}
