// Which rows of a table are shown and in what order. It draws nothing.
import type { ReactNode } from "react";
import { compareNames } from "~/format/collate";

export type SortValue = string | number | boolean | null | undefined;

export interface Column<R> {
  id: string;
  header: string;
  /** What a cell shows. */
  cell: (row: R) => ReactNode;
  /** Sortable by this; what is null comes last in both directions. */
  sort?: (row: R) => SortValue;
  /** What the search looks into; the sort value's text where it is not given. */
  text?: (row: R) => string;
  /** A grid track: "minmax(8rem, 1fr)", "6rem". */
  width?: string;
  /** Numbers stand at the end. */
  align?: "start" | "end";
  /** A longer explanation of the header. */
  title?: string;
  /** What a file of this table has in the column; the search text where it is not given. */
  value?: (row: R) => string | number | boolean | null;
}

export interface Sort {
  column: string;
  descending: boolean;
}

function compare(a: NonNullable<SortValue>, b: NonNullable<SortValue>): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return compareNames(String(a), String(b));
}

const isMissing = (value: SortValue): value is null | undefined =>
  value === null || value === undefined || (typeof value === "number" && Number.isNaN(value));

/** A sorted copy; rows that are equal keep their order. */
export function sortRows<R>(rows: readonly R[], columns: readonly Column<R>[], sort: Sort | null): readonly R[] {
  const by = columns.find((column) => column.id === sort?.column)?.sort;
  if (by === undefined || sort === null) return rows;
  const sign = sort.descending ? -1 : 1;
  return rows
    .map((row) => ({ row, value: by(row) }))
    .sort((a, b) => {
      if (isMissing(a.value) || isMissing(b.value)) return Number(isMissing(a.value)) - Number(isMissing(b.value));
      return sign * compare(a.value, b.value);
    })
    .map(({ row }) => row);
}

export function cellText<R>(column: Column<R>, row: R): string {
  if (column.text !== undefined) return column.text(row);
  const value = column.sort?.(row);
  return isMissing(value) ? "" : String(value);
}

/** The rows in which every word of the search stands somewhere. */
export function searchRows<R>(rows: readonly R[], columns: readonly Column<R>[], search: string): readonly R[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return rows;
  return rows.filter((row) => {
    const text = columns
      .map((column) => cellText(column, row))
      .join("\n")
      .toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** The next sort when a header is pressed: one way, the other way, then as it came. */
export function nextSort(sort: Sort | null, column: string): Sort | null {
  if (sort?.column !== column) return { column, descending: false };
  return sort.descending ? null : { column, descending: true };
}

/** The row that a key leads to from row `at` (-1 for none), or null for another key. */
export function keyTarget(key: string, at: number, count: number, page: number): number | null {
  const within = (index: number) => Math.max(0, Math.min(count - 1, index));
  switch (key) {
    case "ArrowDown":
      return within(at + 1);
    case "ArrowUp":
      return within(at < 0 ? count - 1 : at - 1);
    case "PageDown":
      return within(at + page);
    case "PageUp":
      return within(at - page);
    case "Home":
      return 0;
    case "End":
      return within(count - 1);
    default:
      return null;
  }
}
