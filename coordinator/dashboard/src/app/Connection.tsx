// Whether what the page shows is true now: the mark in the header, the banner when it is not, and the ribbon of a demo.

import { Banner } from "~/components/Banner";
import { Button } from "~/components/Button";
import { Icon } from "~/components/Icon";
import { Badge } from "~/components/StateBadge";
import { useNow } from "~/data/clock";
import { useDashboard, useLiveConnection, useLiveStatus, useSimulated } from "~/data/context";
import { formatAge, formatClock, formatDuration } from "~/format/format";

export function ConnectionMark() {
  const phase = useLiveStatus((status) => status.phase);
  const via = useLiveStatus((status) => status.via);
  const away = useDashboard((state) => state !== null && !state.coordinator.connected);
  if (phase === "connecting") return <Badge icon="hourglass" tone="neutral" word="Connecting" />;
  if (phase === "stale") return <Badge icon="warning" tone="danger" word="Stale" />;
  if (away) return <Badge icon="warning" tone="warn" word="Coordinator away" />;
  return (
    <Badge
      icon="zap"
      tone="ok"
      word="Live"
      title={via === "sse" ? "Live, by server-sent events" : "Live, by WebSocket"}
    />
  );
}

function RetryButton() {
  const live = useLiveConnection();
  const retryAt = useLiveStatus((status) => status.retryAt);
  const now = useNow();
  if (retryAt === null) return null;
  const seconds = Math.max(0, Math.ceil((retryAt - now) / 1000));
  return (
    <Button icon="refresh" onClick={() => live.retryNow()}>
      Try now{seconds > 0 ? ` (${formatDuration(seconds)})` : ""}
    </Button>
  );
}

/** Says since when the page is old; the last state stays below it. */
export function StaleBanner() {
  const phase = useLiveStatus((status) => status.phase);
  const heardAt = useLiveStatus((status) => status.heardAt);
  const trouble = useLiveStatus((status) => status.trouble);
  const away = useDashboard((state) => state !== null && !state.coordinator.connected);
  const awaySince = useDashboard((state) => state?.coordinator.since ?? null);
  const now = useNow();
  if (phase === "connecting" && trouble !== null) {
    return (
      <Banner tone="danger" action={<RetryButton />}>
        Nobody answers at {location.host}: {trouble}. Is <code className="font-mono text-xs">strata api</code> running?
        This page tries again by itself.
      </Banner>
    );
  }
  if (phase === "stale") {
    return (
      <Banner tone="danger" action={<RetryButton />}>
        No answer from the API since <strong>{formatClock(heardAt)}</strong> ({formatAge(heardAt, now)}); showing the
        last state.
      </Banner>
    );
  }
  if (phase === "live" && away) {
    return (
      <Banner tone="warn">
        No answer from the coordinator since <strong>{formatClock(awaySince)}</strong>
        {awaySince === null ? "" : ` (${formatAge(awaySince, now)})`}; showing the last state. Workers go on with what
        they have and come back by themselves.
      </Banner>
    );
  }
  return null;
}

export function SimulatedRibbon() {
  if (!useSimulated()) return null;
  return (
    <div
      className="flex h-6 shrink-0 items-center justify-center gap-2 bg-violet-soft text-xs font-medium text-violet"
      role="note"
    >
      <Icon name="info" size={13} />
      Simulated data: nothing on this page was measured
    </div>
  );
}
