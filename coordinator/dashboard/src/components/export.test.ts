import { expect, it } from "vitest";
import { csvCell, tableCsv, toCsv } from "./export";

it.each([
  ["plain", "plain"],
  ['a "quoted", part', '"a ""quoted"", part"'],
  ["two\nlines", '"two\nlines"'],
  ["=HYPERLINK(1)", "'=HYPERLINK(1)"],
  ["+1", "'+1"],
  ["@cmd", "'@cmd"],
  [-1, "-1"],
  [null, ""],
  [true, "true"],
] as const)("the cell %j is written as %j", (cell, text) => expect(csvCell(cell)).toBe(text));

it("a table's file has its headers, and its values as they are and not as they are shown", () => {
  const columns = [
    { id: "id", header: "Worker", cell: () => null, sort: (row: { id: string }) => row.id },
    { id: "size", header: "Bytes", cell: () => "1 kB", value: () => 1000 },
  ];
  expect(tableCsv(columns, [{ id: "w-0" }])).toBe("Worker,Bytes\r\nw-0,1000\r\n");
});

it("a file without rows is its header", () => expect(toCsv(["a", "b"], [])).toBe("a,b\r\n"));
