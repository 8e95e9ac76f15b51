import { fireEvent, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";
import { describe, expect, it, vi } from "vitest";
import { Value } from "~/format/Value";
import { Histogram } from "./charts/Bars";
import { TimeSeries } from "./charts/TimeSeries";
import { Drawer } from "./Drawer";
import { SearchField } from "./filters/Filters";
import { ToggleGroup } from "./filters/ToggleGroup";
import { WorkerStateBar } from "./HealthStrip";
import { LogLines } from "./logs/LogLines";
import { StateBadge } from "./StateBadge";
import { Swimlane } from "./swimlane/Swimlane";

vi.mock("uplot", () => ({
  default: class {
    setData() {}
    destroy() {}
  },
}));

describe("what is unknown", () => {
  it("is a dash with its reason, and no zero", () => {
    render(<Value of={null} format={String} unknown="no barrier has ended yet" />);
    expect(screen.getByTitle("Unknown: no barrier has ended yet").textContent).toBe(
      "–unknown: no barrier has ended yet",
    );
  });
});

describe("a chart", () => {
  it("is the same data as a table, newest first, with what is missing named", async () => {
    const format = (value: number | null) => (value === null ? "unknown" : String(value));
    render(<TimeSeries title="Rate" x={[1, 2]} lines={[{ label: "a", values: [5, null] }]} format={format} />);
    await userEvent.click(screen.getByRole("button", { name: "Show Rate as a table" }));
    expect(screen.getAllByRole("cell").map((cell) => cell.textContent)).toEqual(["unknown", "5"]);
  });
  it("stands still while it is paused", async () => {
    const chart = (value: number) => (
      <TimeSeries title="Rate" x={[1]} lines={[{ label: "a", values: [value] }]} format={(shown) => `is ${shown}`} />
    );
    const { rerender } = render(chart(5));
    await userEvent.click(screen.getByRole("button", { name: "Pause Rate" }));
    rerender(chart(6));
    expect(screen.getByText("is 5")).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Go on with Rate" }));
    expect(screen.getByText("is 6")).toBeTruthy();
  });
  it("of bars is a table, too", async () => {
    render(<Histogram title="Wait" noun="barriers" bins={[{ label: "1 ms", count: 3 }]} />);
    await userEvent.click(screen.getByRole("button", { name: "Show Wait as a table" }));
    expect(screen.getByRole("cell").textContent).toBe("3");
  });
});

const LANES = ["w-0", "w-1"].map((id) => ({
  id,
  label: id,
  spans: [{ kind: "training" as const, from: 0, to: 60_000 }],
}));

function Held({ onOpen }: { onOpen: (id: string) => void }) {
  const [paused, setPaused] = useState<{ from: number; to: number } | null>(null);
  const [length, setLength] = useState(20_000);
  return (
    <>
      <output>{paused === null ? "follows" : `${paused.from}-${paused.to}`}</output>
      <Swimlane
        title="Time"
        lanes={LANES}
        bounds={{ from: 0, to: 60_000 }}
        paused={paused}
        lengthMs={length}
        onPausedChange={setPaused}
        onLengthChange={setLength}
        onOpenLane={({ id }) => onOpen(id)}
        height={200}
      />
    </>
  );
}

function DrawerPage() {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" onClick={() => setOpen(true)}>
        open
      </button>
      {open ? (
        <Drawer title="w-0" onClose={() => setOpen(false)}>
          text
        </Drawer>
      ) : null}
    </>
  );
}

describe("the swimlane", () => {
  it("goes back, zooms, returns to now and opens a lane with the keyboard", async () => {
    const opened = vi.fn();
    render(<Held onOpen={opened} />);
    screen.getByRole("application").focus();
    const state = () => screen.getByRole("status").textContent;
    await userEvent.keyboard("{ArrowLeft}");
    expect(state()).toBe("37500-57500");
    await userEvent.keyboard("{+}");
    expect(state()).toBe("42500-52500");
    await userEvent.keyboard("{End}");
    expect(state()).toBe("follows");
    await userEvent.keyboard("{ArrowDown}{ArrowDown}{Enter}");
    expect(opened).toHaveBeenCalledExactlyOnceWith("w-1");
  });
});

describe("a drawer", () => {
  it("takes the focus, closes on Escape and gives the focus back", async () => {
    render(<DrawerPage />);
    await userEvent.click(screen.getByText("open"));
    expect(document.activeElement).toBe(screen.getByRole("complementary", { name: "w-0" }));
    await userEvent.keyboard("{Escape}");
    expect(screen.queryByRole("complementary")).toBeNull();
    expect(document.activeElement?.textContent).toBe("open");
  });
});

describe("filters", () => {
  it("search is emptied with Escape", () => {
    const changed = vi.fn();
    render(<SearchField label="Search" value="abc" onChange={changed} />);
    fireEvent.keyDown(screen.getByRole("searchbox"), { key: "Escape" });
    expect(changed).toHaveBeenCalledExactlyOnceWith("");
  });
  it("toggles say whether they are pressed", async () => {
    const changed = vi.fn();
    render(
      <ToggleGroup label="States" options={[{ value: "a", label: "A" }]} chosen={new Set(["a"])} onChange={changed} />,
    );
    expect(screen.getByRole("button", { pressed: true, name: "A" })).toBeTruthy();
    await userEvent.click(screen.getByRole("button"));
    expect(changed).toHaveBeenCalledExactlyOnceWith(new Set());
  });
});

describe("states", () => {
  it("are words, and one that is not known is shown as it was sent", () => {
    render(
      <>
        <StateBadge state="LOADING_DATA" />
        <StateBadge state="constructor" />
      </>,
    );
    expect(screen.getByText("Loading data")).toBeTruthy();
    expect(screen.getByText("constructor")).toBeTruthy();
  });
  it("add up in the bar's name", () => {
    render(<WorkerStateBar counts={{ TRAINING: 2, FAILED: 1 }} />);
    expect(screen.getByRole("list", { name: "3 workers by state" }).children).toHaveLength(2);
  });
});

it("markup in a line of a log is shown inert", () => {
  const line = {
    number: 1,
    timestamp: 0,
    level: "error" as const,
    source: "<i>w</i>",
    message: "<img src=x>",
    fields: { a: "<b>" },
  };
  const { container } = render(<LogLines label="Log" lines={[line]} />);
  expect(container.querySelector("img, i, b")).toBeNull();
  expect(screen.getByText("<img src=x>", { exact: false })).toBeTruthy();
});
