// What needs a person, gravest first: what has happened, since when, what to do, and where to look.
import { useState } from "react";
import { Link } from "wouter";
import type { Alert } from "~/api/types";
import { Button } from "~/components/Button";
import { Icon } from "~/components/Icon";
import { Panel } from "~/components/Panel";
import { Age } from "~/components/time/Age";
import { SOFT, TEXT, TONE_ICON, type Tone } from "~/components/tone";
import { useSlice } from "~/data/context";
import { formatCount, formatPlural } from "~/format/format";
import { alertHref } from "./health";

const SHOWN = 4;

export function Alerts() {
  const alerts = useSlice("alerts") ?? [];
  const [all, setAll] = useState(false);
  if (alerts.length === 0) return null;
  const shown = all ? alerts : alerts.slice(0, SHOWN);
  return (
    <Panel
      title="Needs a person"
      hint={formatPlural(alerts.length, "alert")}
      actions={
        alerts.length <= SHOWN ? undefined : (
          <Button weight="quiet" aria-expanded={all} onClick={() => setAll(!all)}>
            {all ? `Show the first ${SHOWN}` : `Show all ${formatCount(alerts.length)}`}
          </Button>
        )
      }
      flush
    >
      <ul aria-label="Alerts" className="max-h-96 divide-y divide-line overflow-y-auto">
        {shown.map((alert) => (
          <AlertRow key={alert.id} alert={alert} />
        ))}
      </ul>
    </Panel>
  );
}

function AlertRow({ alert }: { alert: Alert }) {
  const tone: Tone = alert.level === "error" ? "danger" : "warn";
  return (
    <li className="flex items-start gap-3 px-3.5 py-2">
      <span className={`mt-0.5 flex size-6 shrink-0 items-center justify-center rounded-md ${SOFT[tone]}`}>
        <Icon name={TONE_ICON[tone]} size={14} />
      </span>
      <div className="min-w-0 flex-1 text-sm">
        <p className="break-words text-ink">
          <span className={`font-semibold ${TEXT[tone]}`}>{alert.level === "error" ? "Error" : "Warning"}</span>{" "}
          {alert.text}
        </p>
        <p className="break-words text-ink-2">{alert.way_out}</p>
      </div>
      <span className="flex shrink-0 flex-col items-end gap-0.5 text-xs text-ink-3">
        <Age at={alert.since} />
        <Link
          href={alertHref(alert)}
          className="text-accent underline decoration-line-strong underline-offset-2 hover:decoration-current"
        >
          Look<span className="sr-only"> at what this is about: {alert.text}</span>
        </Link>
      </span>
    </li>
  );
}
