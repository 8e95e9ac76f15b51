// How tall a table is that grows with its rows up to a point, and scrolls from there.

/** The rows and the header of DataTable, in CSS pixels. */
const ROW_PX = 30;
const HEADER_PX = 33;
const EMPTY_PX = 130;

/** A CSS length for `rows` rows, at most `most` of them; enough for a sentence where there is none. */
export function listHeight(rows: number, most = 10): string {
  return `${rows === 0 ? EMPTY_PX : Math.min(rows, most) * ROW_PX + HEADER_PX}px`;
}
