// A page's sources for tests of views: a dashboard as it shall be, and answers by path.
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import type { ReactNode } from "react";
import type { Dashboard } from "~/api/types";
import { ApiClient } from "~/data/client";
import { type Sources, SourcesProvider } from "~/data/context";
import { createProtocol, type LiveState } from "~/data/dashboard";
import { LiveConnection } from "~/data/live";
import type { ChannelHandlers, Transport } from "~/data/transport";

/** A dashboard of a coordinator that was never heard; a test gives the parts that it is about. */
export function dashboardOf(parts: Partial<Dashboard> = {}): Dashboard {
  const coordinator = { connected: true, source: "live", simulated: false, job: "mnist", since: null, address: "" };
  return {
    life: "life",
    number: 1,
    at: 0,
    coordinator: coordinator as unknown as Dashboard["coordinator"],
    workers: [],
    datasets: [],
    checkpoints: [],
    barriers: [],
    metrics: {} as Dashboard["metrics"],
    tasks: [],
    logs: [],
    goodput: {} as Dashboard["goodput"],
    alerts: [],
    barrier_statistics: { most_often_last: [] } as unknown as Dashboard["barrier_statistics"],
    hangs: [],
    rebalances: [],
    certificates: [],
    events: [],
    functions: { connected: false, workers: [] } as unknown as Dashboard["functions"],
    settings: [],
    templates: [],
    ...parts,
  };
}

/** Sources that have taken a dashboard, and the channel by which a test says more. */
export class FakeApi {
  readonly answers: Record<string, unknown>;
  handlers: ChannelHandlers | null = null;
  readonly sources: Sources;

  constructor(answers: Record<string, unknown> = {}) {
    this.answers = answers;
    const transport: Transport = {
      simulated: false,
      channels: ["websocket"],
      fetch: async (path) => {
        const found = this.answers[path] ?? this.answers[path.split("?")[0] ?? ""];
        const body = JSON.stringify(found ?? { detail: `no answer for ${path}` });
        return new Response(body, {
          status: found === undefined ? 404 : 200,
          headers: { "content-type": "application/json" },
        });
      },
      open: (_kind, _path, handlers) => {
        this.handlers = handlers;
        return { close: () => {} };
      },
    };
    const client = new ApiClient(transport);
    const live = new LiveConnection<LiveState>(transport, createProtocol(client), { publishMs: 0 });
    this.sources = { client, live, simulated: false };
    live.start();
  }

  show(state: Dashboard): void {
    this.handlers?.onOpen();
    this.handlers?.onMessage(JSON.stringify({ type: "snapshot", life: state.life, number: state.number, state }));
  }

  wrap(children: ReactNode): ReactNode {
    return (
      <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
        <SourcesProvider sources={this.sources}>{children}</SourcesProvider>
      </QueryClientProvider>
    );
  }
}
