import { render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it, vi } from "vitest";
import { DataTable } from "./DataTable";
import { type Column, nextSort, searchRows, sortRows } from "./order";

interface Row {
  id: string;
  rank: number | null;
}

const COLUMNS: readonly Column<Row>[] = [
  { id: "id", header: "Worker", cell: (row) => row.id, sort: (row) => row.id },
  { id: "rank", header: "Rank", cell: (row) => row.rank ?? "–", sort: (row) => row.rank, align: "end" },
];
const ROWS: Row[] = [
  { id: "w-10", rank: 3 },
  { id: "w-9", rank: null },
  { id: "w-1", rank: 20 },
];
const ids = (rows: readonly Row[]) => rows.map(({ id }) => id);

describe("order", () => {
  it("sorts names with numbers as a person would", () => {
    expect(ids(sortRows(ROWS, COLUMNS, { column: "id", descending: false }))).toEqual(["w-1", "w-9", "w-10"]);
  });
  it.each([
    [false, ["w-10", "w-1", "w-9"]],
    [true, ["w-1", "w-10", "w-9"]],
  ])("puts what is unknown last, descending %s", (descending, expected) => {
    expect(ids(sortRows(ROWS, COLUMNS, { column: "rank", descending }))).toEqual(expected);
  });
  it("finds rows that have every word", () => {
    expect(ids(searchRows(ROWS, COLUMNS, "W-1 20"))).toEqual(["w-1"]);
  });
  it("goes up, down, and back to how the rows came", () => {
    const up = nextSort(null, "id");
    const down = nextSort(up, "id");
    expect([up, down, nextSort(down, "id")]).toEqual([
      { column: "id", descending: false },
      { column: "id", descending: true },
      null,
    ]);
  });
});

describe("the table", () => {
  const many = Array.from({ length: 10_000 }, (_, rank) => ({ id: `w-${rank}`, rank }));

  it("has only the rows in sight in the page, and says how many there are", () => {
    render(<DataTable label="Workers" columns={COLUMNS} rowKey={(row) => row.id} rows={many} />);
    expect(screen.getByRole("grid").getAttribute("aria-rowcount")).toBe("10001");
    expect(screen.getAllByRole("row").length).toBeLessThan(60);
  });

  it("is walked with the arrows and opens a row with Enter", async () => {
    const opened = vi.fn();
    render(<DataTable label="Workers" columns={COLUMNS} rowKey={(row) => row.id} rows={many} onOpen={opened} />);
    screen.getByRole("grid").focus();
    await userEvent.keyboard("{ArrowDown}{ArrowDown}{ArrowUp}{ArrowDown}{Enter}");
    expect(opened).toHaveBeenCalledExactlyOnceWith(many[1]);
  });

  it("is sorted by the button in a header, which says how", async () => {
    render(<DataTable label="Workers" columns={COLUMNS} rowKey={(row) => row.id} rows={ROWS} />);
    const header = screen.getByRole("columnheader", { name: "Rank" });
    await userEvent.click(within(header).getByRole("button"));
    expect(header.getAttribute("aria-sort")).toBe("ascending");
    expect(screen.getAllByRole("row")[1]?.textContent).toBe("w-103");
  });

  it("shows markup in a name as text", () => {
    const rows = [{ id: "<img src=x onerror=alert(1)>", rank: 0 }];
    const { container } = render(<DataTable label="Workers" columns={COLUMNS} rowKey={(row) => row.id} rows={rows} />);
    expect(container.querySelector("img")).toBeNull();
    expect(screen.getByText("<img src=x onerror=alert(1)>")).toBeTruthy();
  });

  it("tells a search without result from a table without rows", () => {
    const table = (rows: Row[], search: string) => (
      <DataTable
        label="Workers"
        columns={COLUMNS}
        rowKey={(row) => row.id}
        rows={rows}
        search={search}
        empty="None joined."
      />
    );
    const { rerender } = render(table(ROWS, "zebra"));
    expect(screen.getByText(/Nothing here has “zebra”/)).toBeTruthy();
    rerender(table([], "zebra"));
    expect(screen.getByText("None joined.")).toBeTruthy();
  });

  it("draws a row anew only when it has changed", () => {
    const cell = vi.fn((row: Row) => row.id);
    const columns: readonly Column<Row>[] = [{ id: "id", header: "Worker", cell }];
    const table = (rows: readonly Row[]) => (
      <DataTable label="Workers" rows={rows} columns={columns} rowKey={(row) => row.id} onOpen={() => {}} />
    );
    const { rerender } = render(table(ROWS));
    cell.mockClear();
    const changed = { id: "w-9", rank: 4 };
    rerender(table(ROWS.map((row) => (row.id === "w-9" ? changed : row))));
    expect(cell.mock.calls).toEqual([[changed]]);
  });
});
