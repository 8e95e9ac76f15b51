// The simulated API of demo mode: answers requests and opens channels inside of the page, without any server.
import type { Transport } from "~/data/transport";

export function createSimulatedTransport(): Transport {
  return {
    simulated: true,
    channels: ["websocket"],
    fetch: async (path) =>
      new Response(JSON.stringify({ detail: `The simulator does not answer ${path}.` }), {
        status: 404,
        headers: { "content-type": "application/json" },
      }),
    open: (_kind, _path, handlers) => {
      const timer = setTimeout(handlers.onOpen, 0);
      return { close: () => clearTimeout(timer) };
    },
  };
}
