// The lengths of time that a view's charts can show, as they stand in its address: seconds, the usual one first.
import { formatDuration } from "~/format/format";

export const SPANS = ["300", "900", "3600"] as const;
export type Span = (typeof SPANS)[number];

export function spanLabel(span: Span): string {
  return formatDuration(Number(span));
}
