// How the dashboard is developed, built and tested. It owns no behaviour of the page.
import { fileURLToPath } from "node:url";
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import type { ProxyOptions } from "vite";
import { defineConfig } from "vitest/config";

/** Where `npm run dev` finds the API; the API accepts its own origin only, so the proxy speaks in its name. */
const api = process.env.STRATA_API ?? "http://127.0.0.1:3000";
const proxy: ProxyOptions = {
  target: api,
  changeOrigin: true,
  ws: true,
  configure: (server) => {
    server.on("proxyReq", (request) => request.setHeader("origin", api));
    server.on("proxyReqWs", (request) => request.setHeader("origin", api));
  },
};

export default defineConfig(({ mode }) => ({
  plugins: [react(), tailwindcss()],
  resolve: { alias: { "~": fileURLToPath(new URL("./src", import.meta.url)) } },
  define: { __SIMULATED__: JSON.stringify(mode === "demo") },
  server: mode === "demo" ? {} : { proxy: { "/api": proxy } },
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  test: {
    environment: "jsdom",
    setupFiles: ["src/testing/setup.ts"],
    include: ["src/**/*.test.{ts,tsx}"],
    pool: "threads",
    maxWorkers: 2,
    css: { include: [/tokens\.css/] },
    restoreMocks: true,
    testTimeout: 60_000, // what hangs fails; what only waits for a core does not
  },
}));
