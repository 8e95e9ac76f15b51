// What a view shows when there is nothing to show: why that is so, and what makes something appear.
import type { ReactNode } from "react";
import { Button } from "./Button";
import { Icon, type IconName } from "./Icon";

interface EmptyStateProps {
  icon: IconName;
  title: string;
  children: ReactNode;
  action?: ReactNode;
}

export function EmptyState({ icon, title, children, action }: EmptyStateProps) {
  return (
    <div className="flex flex-col items-center justify-center gap-3 px-6 py-14 text-center">
      <span className="flex size-10 items-center justify-center rounded-lg border border-line bg-sunken text-ink-3">
        <Icon name={icon} size={20} />
      </span>
      <p className="text-base font-semibold text-ink">{title}</p>
      <div className="max-w-[56ch] text-sm text-ink-2">{children}</div>
      {action}
    </div>
  );
}

interface ErrorStateProps {
  title: string;
  error: unknown;
  onRetry?: () => void;
}

/** What failed, in the API's own words, and a way to try again. */
export function ErrorState({ title, error, onRetry }: ErrorStateProps) {
  return (
    <div role="alert" className="flex flex-col items-center justify-center gap-3 px-6 py-14 text-center">
      <span className="flex size-10 items-center justify-center rounded-lg bg-danger-soft text-danger">
        <Icon name="warning" size={20} />
      </span>
      <p className="text-base font-semibold text-ink">{title}</p>
      <p className="max-w-[64ch] text-sm break-words text-ink-2">
        {error instanceof Error ? error.message : String(error)}
      </p>
      {onRetry === undefined ? null : (
        <Button icon="refresh" onClick={onRetry}>
          Try again
        </Button>
      )}
    </div>
  );
}

/** Grey bars where rows will be; said once to a screen reader. */
export function Loading({ label = "Loading", rows = 4 }: { label?: string; rows?: number }) {
  return (
    <div className="flex flex-col gap-2.5 p-4" role="status">
      <span className="sr-only">{label}</span>
      {Array.from({ length: rows }, (_, row) => (
        <span
          // biome-ignore lint/suspicious/noArrayIndexKey: the bars are alike and never move
          key={row}
          className="h-3.5 animate-pulse rounded bg-sunken"
          style={{ width: `${88 - ((row * 17) % 40)}%` }}
        />
      ))}
    </div>
  );
}
