// A moment as its age, which goes on by itself; the exact time is in the tooltip and in the markup.
import { useNow } from "~/data/clock";
import { formatAge, formatMoment, isKnown, type Maybe } from "~/format/format";
import { Value } from "~/format/Value";

interface AgeProps {
  /** Unix milliseconds. */
  at: Maybe<number>;
  /** Why it may be missing, as a sentence part. */
  unknown?: string;
}

export function Age({ at, unknown = "not recorded" }: AgeProps) {
  const now = useNow();
  if (!isKnown(at)) return <Value of={null} format={String} unknown={unknown} />;
  return (
    <time dateTime={new Date(at).toISOString()} title={formatMoment(at)} className="whitespace-nowrap">
      {formatAge(at, now)}
    </time>
  );
}
