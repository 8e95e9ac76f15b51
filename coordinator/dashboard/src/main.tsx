// Starts the page: chooses who answers it, opens the live state, and draws.
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { ApiClient } from "./data/client";
import { createProtocol } from "./data/dashboard";
import { LiveConnection } from "./data/live";
import { chooseTransport } from "./data/transport";
import "./styles.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");

const transport = await chooseTransport();
const client = new ApiClient(transport);
const live = new LiveConnection(transport, createProtocol(client));
live.start();
addEventListener("online", () => live.retryNow());

createRoot(root).render(
  <StrictMode>
    <App sources={{ client, live, simulated: transport.simulated }} />
  </StrictMode>,
);
