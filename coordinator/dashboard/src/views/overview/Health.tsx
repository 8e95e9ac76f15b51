// The health strip: workers, goodput, what is durable, how far the job is, and what needs a person.
import { useMemo } from "react";
import { type HealthItem, HealthStrip } from "~/components/HealthStrip";
import { Age } from "~/components/time/Age";
import { useConnection, useSlice } from "~/data/context";
import { formatCount, formatDuration } from "~/format/format";
import { Value } from "~/format/Value";
import { alertsVerdict, checkpointVerdict, goodputVerdict, lastDurable, workersVerdict } from "./health";

export function Health() {
  const coordinator = useSlice("coordinator");
  const workers = useSlice("workers");
  const goodput = useSlice("goodput");
  const checkpoints = useSlice("checkpoints");
  const alerts = useSlice("alerts");
  const live = useConnection().source === "live";
  const items = useMemo((): HealthItem[] => {
    if (!coordinator || !workers || !goodput || !checkpoints || !alerts) return [];
    const crew = workersVerdict(workers, coordinator, alerts);
    const good = goodputVerdict(goodput, alerts);
    const safe = checkpointVerdict(checkpoints, alerts);
    const told = alertsVerdict(alerts);
    const last = lastDurable(checkpoints);
    return [
      { id: "alerts", label: "Alerts", value: told.text, tone: told.tone, detail: told.detail },
      {
        id: "workers",
        label: "Workers",
        value: crew.text,
        tone: crew.tone,
        detail: crew.detail,
        icon: "workers",
        href: "/workers",
      },
      {
        id: "goodput",
        label: "Goodput",
        value: <Value of={good?.text} format={String} unknown="no worker reports where its time goes" />,
        tone: good?.tone ?? "neutral",
        detail: good?.detail ?? "no worker reports where its time goes",
        icon: "zap",
        href: "/timeline",
      },
      {
        id: "checkpoint",
        label: "Last durable checkpoint",
        value:
          last === undefined ? (
            <Value of={null} format={String} unknown="no checkpoint is durable yet" />
          ) : (
            <Age at={last.durable_at ?? last.created_at} />
          ),
        tone: safe.tone,
        detail: safe.detail,
        icon: "checkpoints",
        href: last === undefined ? "/checkpoints" : `/checkpoints/${encodeURIComponent(last.id)}`,
      },
      {
        id: "progress",
        label: "Progress",
        value: (
          <Value
            of={coordinator.epoch}
            format={(epoch) => `Epoch ${formatCount(epoch)}`}
            unknown="the coordinator has not been heard"
          />
        ),
        tone: "info",
        detail: [
          coordinator.commit_index === null ? "" : `commit point ${formatCount(coordinator.commit_index)}`,
          coordinator.uptime === null ? "" : `up ${formatDuration(Math.floor(coordinator.uptime))}`,
        ]
          .filter((part) => part !== "")
          .join(", "),
        icon: "data",
        href: "/data",
      },
    ];
  }, [coordinator, workers, goodput, checkpoints, alerts]);
  return <HealthStrip items={live ? items : items.map(asOfThen)} />;
}

/** What was well when it was told last is not known to be well now. */
function asOfThen(item: HealthItem): HealthItem {
  return item.tone === "ok" || item.tone === "info" ? { ...item, tone: "neutral" } : item;
}
