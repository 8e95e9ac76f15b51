import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it, vi } from "vitest";
import type { LogLine } from "~/api/types";
import { LogList } from "./LogList";

function line(number: number, parts: Partial<LogLine> = {}): LogLine {
  return {
    number,
    timestamp: number,
    level: "info",
    source: "worker-0",
    message: `line ${number}`,
    fields: {},
    ...parts,
  };
}
const many = Array.from({ length: 20_000 }, (_, at) => line(at + 1));

describe("the list of lines", () => {
  it("has only the lines in sight in the page, and says how many there are", () => {
    render(<LogList label="Lines" lines={many} follow={false} onFollow={() => {}} />);
    expect(screen.getByRole("treegrid", { name: "Lines" }).getAttribute("aria-rowcount")).toBe("20000");
    expect(screen.getAllByRole("row").length).toBeLessThan(80);
  });

  it("shows markup in a message, a source and a field as text", () => {
    const bad = "<img src=x onerror=alert(1)>";
    const { container } = render(
      <LogList
        label="Lines"
        lines={[line(1, { message: bad, source: bad, fields: { [bad]: bad } })]}
        follow
        onFollow={() => {}}
      />,
    );
    expect(container.querySelector("img")).toBeNull();
    expect(screen.getAllByText(bad, { exact: false }).length).toBeGreaterThan(0);
  });

  it("opens a line to its whole message and fields with the keyboard, and stops following", async () => {
    const follow = vi.fn();
    const lines = [line(1), line(2, { message: "first\nsecond", fields: { step: 7 } })];
    render(<LogList label="Lines" lines={lines} follow onFollow={follow} />);
    expect(screen.getByText("first ⏎ second")).toBeTruthy();
    screen.getByRole("treegrid").focus();
    await userEvent.keyboard("{ArrowUp}");
    expect(follow).toHaveBeenLastCalledWith(false);
    const row = screen.getAllByRole("row")[1];
    expect(row?.getAttribute("aria-expanded")).toBe("false");
    await userEvent.keyboard("{Enter}");
    expect(row?.getAttribute("aria-expanded")).toBe("true");
    expect(row?.textContent).toContain("first\nsecond");
    expect(screen.getByText("step")).toBeTruthy();
  });

  it("counts what has come since following ended, and goes back to it", async () => {
    const follow = vi.fn();
    const list = (count: number) => (
      <LogList label="Lines" lines={many.slice(0, count)} follow={false} onFollow={follow} />
    );
    const { rerender } = render(list(10));
    rerender(list(13));
    await userEvent.click(screen.getByRole("button", { name: "3 new lines: follow" }));
    expect(follow).toHaveBeenCalledWith(true);
  });

  it("says where lines are missing", () => {
    render(
      <LogList label="Lines" lines={[line(1), line(9)]} holes={new Set([9])} follow={false} onFollow={() => {}} />,
    );
    expect(screen.getByText(/Lines are missing here/)).toBeTruthy();
  });
});
