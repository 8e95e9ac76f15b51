// The figures above the functions.
import type { Functions } from "~/api/types";
import { StatRow, StatTile } from "~/components/StatTile";
import { formatBytes, formatCount, formatPercent, formatRate, isKnown } from "~/format/format";
import { Value } from "~/format/Value";

const RATE_HINT = "over the last 10 s";

/** Failed among those that ended by themselves, since the dispatcher began; null of none. */
function failedShare({ completed_total, failed_total }: Functions): number | null {
  if (completed_total === null || failed_total === null) return null;
  const ended = completed_total + failed_total;
  return ended === 0 ? null : failed_total / ended;
}

export function FunctionTiles({ functions }: { functions: Functions }) {
  const { running, slots, failed_total } = functions;
  const share = failedShare(functions);
  return (
    <StatRow>
      <StatTile
        label="Queued"
        value={<Value of={functions.queued} format={formatCount} />}
        hint={`${formatRate(functions.accepted_per_s)} accepted, ${formatBytes(functions.queued_bytes)}`}
      />
      <StatTile
        label="Running"
        value={
          <>
            <Value of={running} format={formatCount} />
            <span className="text-base font-normal text-ink-3">
              {" of "}
              <Value of={slots} format={formatCount} /> slots
            </span>
          </>
        }
        hint={isKnown(running) && isKnown(slots) && slots > 0 ? `${formatPercent(running / slots)} busy` : "no slots"}
      />
      <StatTile
        label="Completed"
        value={<Value of={functions.completed_per_s} format={formatRate} />}
        hint={RATE_HINT}
      />
      <StatTile
        label="Failed"
        value={<Value of={functions.failed_per_s} format={formatRate} />}
        hint={share === null ? "none has ended yet" : `${formatCount(failed_total)} in all, ${formatPercent(share)}`}
        {...(isKnown(functions.failed_per_s) && functions.failed_per_s > 0 ? { tone: "danger" as const } : {})}
      />
      <StatTile
        label="Results kept"
        value={<Value of={functions.ended} format={formatCount} />}
        hint={
          <>
            {isKnown(functions.result_bytes) ? formatBytes(functions.result_bytes) : "size not measured"}
            {functions.store === null ? "" : ` in ${functions.store}`}
          </>
        }
      />
      <StatTile
        label="Given again"
        value={<Value of={functions.requeued_total} format={formatCount} />}
        hint={`${formatCount(functions.cancelled_total)} cancelled, ${formatCount(functions.late_results)} too late`}
      />
    </StatRow>
  );
}
