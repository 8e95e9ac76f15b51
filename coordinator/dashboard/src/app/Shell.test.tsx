import { act, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { dashboardOf, FakeApi } from "~/testing/sources";
import { Shell } from "./Shell";
import { setShortcutsEnabled } from "./shortcuts";
import { VIEWS, viewOf } from "./views";

let api: FakeApi;
beforeEach(() => {
  history.replaceState(null, "", "/");
  HTMLDialogElement.prototype.showModal = function show() {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function close() {
    this.open = false;
  };
  api = new FakeApi();
});
afterEach(() => {
  api.sources.live.stop();
  setShortcutsEnabled(true);
});

describe("the shell", () => {
  it("opens a view by its address, names it in the title, and marks it in the navigation", async () => {
    history.replaceState(null, "", "/workers/w-7");
    render(api.wrap(<Shell />));
    api.show(dashboardOf());
    await waitFor(() => expect(document.title).toBe("Workers · mnist · Strata"));
    expect(screen.getByRole("link", { current: "page" }).getAttribute("href")).toBe("/workers");
    expect(screen.getByRole("heading", { level: 1 }).textContent).toBe("Workers");
  });

  it("goes to a view with g and a letter, but not while somebody types, nor when shortcuts are off", async () => {
    render(api.wrap(<Shell />));
    await userEvent.keyboard("gc");
    expect(location.pathname).toBe("/checkpoints");
    const field = document.body.appendChild(document.createElement("input"));
    field.focus();
    await userEvent.keyboard("gb");
    expect(location.pathname).toBe("/checkpoints");
    field.remove();
    act(() => setShortcutsEnabled(false));
    await userEvent.keyboard("gb");
    expect(location.pathname).toBe("/checkpoints");
  });

  it("lists its shortcuts on a question mark", async () => {
    render(api.wrap(<Shell />));
    await userEvent.keyboard("?");
    expect(screen.getByRole("dialog", { name: "Keyboard" })).toBeTruthy();
  });

  it("says since when the coordinator is away, and takes it back by itself", async () => {
    const coordinator = dashboardOf().coordinator;
    const since = new Date(2026, 10, 22, 14, 2, 11).getTime();
    render(api.wrap(<Shell />));
    api.show(dashboardOf({ coordinator: { ...coordinator, connected: false, source: "stale", since } }));
    expect(await screen.findByText(/No answer from the coordinator since/)).toBeTruthy();
    expect(screen.getByText("14:02:11")).toBeTruthy();
    api.show(dashboardOf({ number: 2 }));
    await waitFor(() => expect(screen.queryByText(/No answer from/)).toBeNull());
  });

  it("keeps the last state, marked stale, when the API goes", async () => {
    render(api.wrap(<Shell />));
    api.show(dashboardOf());
    await screen.findByText("Live");
    api.handlers?.onClose("gone");
    expect(await screen.findByText(/No answer from the API since/)).toBeTruthy();
    expect(screen.getByText("mnist")).toBeTruthy();
  });

  it("wears a ribbon when the data is simulated", async () => {
    render(api.wrap(<Shell />));
    expect(screen.queryByText(/Simulated data/)).toBeNull();
    api.show(dashboardOf({ coordinator: { ...dashboardOf().coordinator, simulated: true } }));
    expect(await screen.findByText(/Simulated data/)).toBeTruthy();
  });

  it("says what to do at an address that is none", async () => {
    history.replaceState(null, "", "/no/such");
    render(api.wrap(<Shell />));
    expect(await screen.findByText("There is no such page")).toBeTruthy();
  });
});

it("no two views share a path or a key", () => {
  expect(new Set(VIEWS.map(({ path }) => path)).size).toBe(VIEWS.length);
  expect(new Set(VIEWS.map(({ key }) => key)).size).toBe(VIEWS.length);
  expect(viewOf("/workersx")).toBeUndefined();
});
