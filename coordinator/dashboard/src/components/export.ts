// Makes files of what a view shows. Text comes from workers: no cell of it may be read as a formula.
import type { Column } from "./table/order";
import { cellText } from "./table/order";

export type Cell = string | number | boolean | null | undefined;

/** A cell of CSV (RFC 4180). One that a spreadsheet would take for a formula gets an apostrophe in front. */
export function csvCell(cell: Cell): string {
  if (cell === null || cell === undefined) return "";
  if (typeof cell !== "string") return String(cell);
  const inert = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}

export function toCsv(header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [header, ...rows].map((row) => `${row.map(csvCell).join(",")}\r\n`).join("");
}

/** A table's rows as CSV, with the columns that it shows. */
export function tableCsv<R>(columns: readonly Column<R>[], rows: readonly R[]): string {
  return toCsv(
    columns.map((column) => column.header),
    rows.map((row) =>
      columns.map((column) => (column.value === undefined ? cellText(column, row) : column.value(row))),
    ),
  );
}

/** Hands a text to the browser as a file to keep. */
export function saveFile(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
