import { fireEvent, render, screen } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { Flags } from "./Flags";
import { legible, placeFlags, type TimeSeriesMark } from "./flags";

const mark = (at: number, tone: TimeSeriesMark["tone"] = "ok"): TimeSeriesMark => ({
  at,
  label: `event at ${at}`,
  tone,
  icon: "check",
  href: `/activity?at=${at}`,
});

describe("flags above a chart", () => {
  it("stand where their moment is, and only inside of the axis", () => {
    const flags = placeFlags([mark(5), mark(10), mark(15), mark(99)], 10, 20, 0.1);
    expect(flags.map(({ place }) => place)).toEqual([0, 0.5]);
  });

  it("share one flag where they are too close, with the look of the gravest", () => {
    const [flag] = placeFlags([mark(11), mark(10), mark(10.5, "danger")], 10, 20, 0.2);
    expect(flag).toMatchObject({ from: 10, to: 11, tone: "danger" });
    expect(flag?.marks).toHaveLength(3);
  });

  it("are no more than fit, however many events there are", () => {
    const many = Array.from({ length: 5_000 }, (_, at) => mark(at, "warn"));
    expect(placeFlags(many, 0, 5_000, 0.05).length).toBeLessThanOrEqual(21);
  });

  it("leave out what is routine where it would hide the rest", () => {
    const saves = Array.from({ length: 60 }, (_, at) => mark(at));
    const all = [...saves, mark(30.5, "danger")];
    expect(legible(all, 0, 60)).toEqual([mark(30.5, "danger")]);
    expect(placeFlags(all, 0, 60, 0.05)).toHaveLength(1);
    expect(legible(all, 50, 60)).toEqual(saves.slice(50));
  });

  it("are none on an axis without length, and none for a mark that leads nowhere", () => {
    expect(placeFlags([mark(1)], 1, 1, 0.1)).toEqual([]);
    expect(placeFlags([{ at: 1, label: "a line" }], 0, 2, 0.1)).toEqual([]);
  });

  it("are one stop for the keyboard: the arrows go from one to the next", () => {
    render(
      <Flags
        label="Samples"
        marks={[mark(1), mark(5, "danger"), mark(5.01)]}
        from={0}
        to={10}
        left={0}
        width={400}
        hrefOf={(from, to) => `/activity?from=${from}&to=${to}`}
      />,
    );
    const [first, second] = screen.getAllByRole("link");
    expect(first?.tabIndex).toBe(-1);
    expect(second?.tabIndex).toBe(0);
    expect(second?.getAttribute("href")).toBe("/activity?from=5&to=5.01");
    expect(second?.textContent).toBe("2");
    second?.focus();
    fireEvent.keyDown(second as HTMLElement, { key: "ArrowLeft" });
    expect(document.activeElement).toBe(first);
    expect(first?.getAttribute("aria-label")).toContain("event at 1");
  });
});
