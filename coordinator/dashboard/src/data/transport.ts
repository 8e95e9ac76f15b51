// The one seam between the page and whoever answers it: the API over the network, or the simulator of demo mode.

/** What a live channel tells its owner. Every channel ends with exactly one `onClose`. */
export interface ChannelHandlers {
  onOpen: () => void;
  onMessage: (text: string) => void;
  onClose: (reason: string) => void;
}

export interface Channel {
  close: () => void;
}

export type ChannelKind = "websocket" | "sse";

export interface Transport {
  /** True when nothing that it answers was measured; the page then wears its ribbon. */
  readonly simulated: boolean;
  /** The channels it can open, best first. */
  readonly channels: readonly ChannelKind[];
  fetch: (path: string, init: RequestInit) => Promise<Response>;
  open: (kind: ChannelKind, path: string, handlers: ChannelHandlers) => Channel;
}

function openWebSocket(path: string, handlers: ChannelHandlers): Channel {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url);
  socket.onopen = () => handlers.onOpen();
  socket.onmessage = (event) => {
    if (typeof event.data === "string") handlers.onMessage(event.data);
  };
  socket.onclose = (event) => handlers.onClose(event.reason === "" ? `closed (${event.code})` : event.reason);
  return { close: () => socket.close() };
}

function openEventSource(path: string, handlers: ChannelHandlers): Channel {
  const source = new EventSource(path);
  let ended = false;
  const end = (reason: string) => {
    if (ended) return;
    ended = true;
    source.close();
    handlers.onClose(reason);
  };
  source.onopen = () => handlers.onOpen();
  const onMessage = (event: MessageEvent) => handlers.onMessage(String(event.data));
  for (const name of ["message", "snapshot", "changes"]) source.addEventListener(name, onMessage);
  // EventSource would try again by itself, without back-off: the owner decides when.
  source.onerror = () => end("the event stream ended");
  return { close: () => end("closed") };
}

export const network: Transport = {
  simulated: false,
  channels: ["websocket", "sse"],
  fetch: (path, init) => fetch(path, init),
  open: (kind, path, handlers) =>
    kind === "websocket" ? openWebSocket(path, handlers) : openEventSource(path, handlers),
};

/** The network, or in demo mode the simulator, which no other build carries. */
export async function chooseTransport(): Promise<Transport> {
  if (!__SIMULATED__) return network;
  const { createSimulatedTransport } = await import("~/demo/transport");
  return createSimulatedTransport();
}
