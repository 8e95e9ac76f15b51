import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Setting } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import SettingsView from "./index";

const SETTINGS: Setting[] = [
  { process: "coordinator", name: "lease_s", value: "10.0", source: "default" },
  { process: "coordinator", name: "token", value: "set", source: "environment" },
  { process: "api", name: "port", value: "3000", source: "option" },
];

let api: FakeApi;
beforeEach(() => {
  history.replaceState(null, "", "/settings");
  api = new FakeApi();
});
afterEach(() => api.sources.live.stop());

it("tells of each value where it came from, and leaves what somebody has set", async () => {
  render(api.wrap(<SettingsView />));
  api.show(dashboardOf({ settings: SETTINGS }));
  expect(await screen.findByText("lease_s")).toBeTruthy();
  await userEvent.click(screen.getByRole("radio", { name: "Set by somebody" }));
  expect(location.search).toBe("?source=set");
  expect(screen.queryByText("lease_s")).toBeNull();
  expect(screen.getByText("2 of 3 settings")).toBeTruthy();
});

it("copies what is shown", async () => {
  const user = userEvent.setup();
  history.replaceState(null, "", "/settings?process=api");
  render(api.wrap(<SettingsView />));
  api.show(dashboardOf({ settings: SETTINGS }));
  await user.click(await screen.findByRole("button", { name: "Copy as JSON" }));
  expect(JSON.parse(await navigator.clipboard.readText())).toEqual([SETTINGS[2]]);
});

it("says why there is none", async () => {
  render(api.wrap(<SettingsView />));
  api.show(dashboardOf());
  expect(await screen.findByText("No process has told its settings yet")).toBeTruthy();
});
