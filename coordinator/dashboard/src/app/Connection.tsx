// Whether what the page shows is true now: the mark in the header, the banner when it is not, and the ribbon of a demo.

import { Banner } from "~/components/Banner";
import { Button } from "~/components/Button";
import { Icon } from "~/components/Icon";
import { Badge } from "~/components/StateBadge";
import { useNow } from "~/data/clock";
import { useConnection, useDashboard, useLiveConnection, useLiveStatus, useSimulated } from "~/data/context";
import { formatAge, formatClock, formatDuration } from "~/format/format";

export function ConnectionMark() {
  const { source } = useConnection();
  const via = useLiveStatus((status) => status.via);
  const trouble = useLiveStatus((status) => status.trouble);
  if (source === "offline") return <Badge icon="warning" tone="danger" word="Stale" />;
  if (source === "stale") return <Badge icon="warning" tone="warn" word="Coordinator away" />;
  if (source === "waiting")
    return <Badge icon="hourglass" tone="neutral" word="Waiting" title={trouble ?? undefined} />;
  const title = via === "sse" ? "Live, by server-sent events" : "Live, by WebSocket";
  return <Badge icon="zap" tone="ok" word="Live" title={title} />;
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
  const { source, since } = useConnection();
  const trouble = useLiveStatus((status) => status.trouble);
  const heard = useDashboard((state) => state !== null);
  const address = useDashboard((state) => state?.coordinator.address ?? "");
  const now = useNow();
  if (source === "live") return null;
  if (source === "offline") {
    return (
      <Banner tone="danger" action={<RetryButton />}>
        No answer from the API since <strong>{formatClock(since)}</strong> ({formatAge(since, now)}); showing the last
        state.
      </Banner>
    );
  }
  if (source === "stale") {
    return (
      <Banner tone="warn">
        No answer from the coordinator since <strong>{formatClock(since)}</strong>
        {since === null ? "" : ` (${formatAge(since, now)})`}; showing the last state. Workers go on with what they
        have, and this page recovers by itself.
      </Banner>
    );
  }
  if (heard) {
    return (
      <Banner tone="warn">
        The coordinator{address === "" ? "" : ` at ${address}`} has not been heard yet. Is it running? The page fills
        when it answers.
      </Banner>
    );
  }
  if (trouble === null) return null;
  return (
    <Banner tone="danger" action={<RetryButton />}>
      Nobody answers at {location.host} ({trouble}). Is <code className="font-mono text-xs">strata api</code> running?
      This page tries again by itself.
    </Banner>
  );
}

export function SimulatedRibbon() {
  if (!useSimulated()) return null;
  return (
    <aside aria-label="Simulated data" className="shrink-0 bg-violet-soft text-xs font-medium text-violet">
      <div className="flex h-6 items-center justify-center gap-2" role="note">
        <Icon name="info" size={13} />
        Simulated data: nothing on this page was measured
      </div>
    </aside>
  );
}
