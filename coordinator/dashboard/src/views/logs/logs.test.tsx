import { act, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { LogLine } from "~/api/types";
import { dashboardOf, FakeApi } from "~/testing/sources";
import LogsView from "./index";

function line(number: number, parts: Partial<LogLine> = {}): LogLine {
  return {
    number,
    timestamp: number,
    level: "info",
    source: "coordinator",
    message: `line ${number}`,
    fields: {},
    ...parts,
  };
}

function textOf(blob: Blob): Promise<string> {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.readAsText(blob);
  });
}

describe("the view", () => {
  let api: FakeApi;
  beforeEach(() => {
    history.replaceState(null, "", "/logs");
    api = new FakeApi({ "/api/logs": { lines: [line(1), line(2)], before: null, sources: ["api", "coordinator"] } });
  });
  afterEach(() => api.sources.live.stop());

  const say = (number: number, logs: LogLine[]) =>
    act(() =>
      api.handlers?.onMessage(JSON.stringify({ type: "changes", life: "life", number, at: 0, changes: { logs } })),
    );

  it("continues the lines that it has read with those that come", async () => {
    render(api.wrap(<LogsView />));
    api.show(dashboardOf());
    expect(await screen.findByText("line 2")).toBeTruthy();
    say(2, [line(3, { message: "<i>live</i>" })]);
    expect(await screen.findByText("<i>live</i>")).toBeTruthy();
    expect(screen.getByText("3 lines")).toBeTruthy();
  });

  it("asks the API by the filters of its address, and keeps to them for what comes", async () => {
    history.replaceState(null, "", "/logs?level=warning&source=api&q=slow");
    const get = vi.spyOn(api.sources.client, "get");
    render(api.wrap(<LogsView />));
    api.show(dashboardOf());
    await screen.findByText("line 2");
    const asked = get.mock.calls.filter(([path]) => path === "/api/logs").at(-1)?.[1]?.query;
    expect(asked).toMatchObject({ level: "warning", source: "api", search: "slow" });
    say(2, [line(3, { message: "slow" }), line(4, { message: "slow store", source: "api", level: "error" })]);
    await waitFor(() => expect(screen.getAllByRole("row").at(-1)?.textContent).toContain("slow store"));
    expect(screen.queryByText("3 lines")).toBeTruthy();
  });

  it("puts what is typed into the address", async () => {
    render(api.wrap(<LogsView />));
    api.show(dashboardOf());
    await screen.findByText("line 2");
    await userEvent.type(screen.getByRole("searchbox", { name: "Search messages" }), "slow");
    await userEvent.click(screen.getByRole("radio", { name: "Errors" }));
    await userEvent.selectOptions(screen.getByRole("combobox", { name: "Process" }), "api");
    expect(location.search).toBe("?q=slow&level=error&source=api");
  });

  it("says what to do where nothing was logged, and where nothing passes", async () => {
    api.answers["/api/logs"] = { lines: [], before: null, sources: [] };
    render(api.wrap(<LogsView />));
    api.show(dashboardOf());
    expect(await screen.findByText("Nothing has been logged yet")).toBeTruthy();
    await userEvent.click(screen.getByRole("radio", { name: "Errors" }));
    expect(await screen.findByText("No line passes the filters")).toBeTruthy();
  });

  it("shows why the lines could not be read, and reads them when it is asked again", async () => {
    const answer = api.answers["/api/logs"];
    delete api.answers["/api/logs"];
    render(api.wrap(<LogsView />));
    api.show(dashboardOf());
    expect((await screen.findByRole("alert")).textContent).toContain("no answer for /api/logs");
    api.answers["/api/logs"] = answer;
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByText("line 2")).toBeTruthy();
  });

  it("takes all lines that pass along, page by page, as JSON lines", async () => {
    const texts: Promise<string>[] = [];
    URL.createObjectURL = (blob) => {
      texts.push(textOf(blob as Blob));
      return "blob:x";
    };
    URL.revokeObjectURL = () => {};
    render(api.wrap(<LogsView />));
    api.show(dashboardOf());
    await screen.findByText("line 2");
    const pages = [
      { lines: [line(3), line(4)], before: 3, sources: [] },
      { lines: [line(1), line(2)], before: null, sources: [] },
    ];
    const get = vi.spyOn(api.sources.client, "get").mockImplementation(async () => pages.shift() as never);
    await userEvent.click(screen.getByRole("button", { name: "Export" }));
    await waitFor(() => expect(texts).toHaveLength(1));
    expect(get.mock.calls.map(([, options]) => options?.query?.before)).toEqual([null, 3]);
    const read = (await texts[0])
      ?.trimEnd()
      .split("\n")
      .map((one) => JSON.parse(one).message);
    expect(read).toEqual(["line 1", "line 2", "line 3", "line 4"]);
  });
});
