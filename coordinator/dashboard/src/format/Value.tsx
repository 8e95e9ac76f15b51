// One figure on the page: known, or an en dash that explains why it is not.
import type { Maybe } from "./format";

interface ValueProps<T> {
  of: Maybe<T>;
  format: (value: T) => string;
  /** Why the figure may be missing, as a sentence part: "no checkpoint has been written yet". */
  unknown?: string;
}

export function Value<T>({ of, format, unknown = "not measured" }: ValueProps<T>) {
  const missing = of === null || of === undefined || (typeof of === "number" && !Number.isFinite(of));
  if (!missing) return <>{format(of)}</>;
  return (
    <span className="text-ink-3" title={`Unknown: ${unknown}`}>
      <span aria-hidden="true">–</span>
      <span className="sr-only">unknown: {unknown}</span>
    </span>
  );
}
