// Who is last most often, since the coordinator began.
import type { BarrierStatistics } from "~/api/types";
import { BarList } from "~/components/charts/Bars";
import { WorkerLink } from "~/components/listing/Links";
import { Panel } from "~/components/Panel";
import { formatPlural } from "~/format/format";
import { latecomers } from "./barriers";

const SHOWN = 10;

export function Latecomers({ statistics }: { statistics: BarrierStatistics }) {
  const rows = latecomers(statistics).slice(0, SHOWN);
  return (
    <Panel title="Most often last" hint="barriers at which a worker came last, since the coordinator began">
      {rows.length === 0 ? (
        <p className="text-sm text-ink-2">No barrier has told its workers apart yet.</p>
      ) : (
        <BarList
          label="Workers by how often they came last"
          bars={rows.map(({ id, times }) => ({
            id,
            label: <WorkerLink id={id} />,
            value: times,
            text: formatPlural(times, "time"),
            token: "span-barrier",
          }))}
        />
      )}
    </Panel>
  );
}
