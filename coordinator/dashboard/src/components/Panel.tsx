// A titled box of a view, and the page around boxes.
import { type ReactNode, useId } from "react";

interface PanelProps {
  title: string;
  /** A short remark beside the title. */
  hint?: ReactNode;
  /** Controls at the right end of the title. */
  actions?: ReactNode;
  children: ReactNode;
  /** Without inner padding, for tables and charts that fill the box. */
  flush?: boolean;
  className?: string;
}

export function Panel({ title, hint, actions, children, flush = false, className = "" }: PanelProps) {
  const heading = useId();
  return (
    <section
      aria-labelledby={heading}
      className={`flex min-w-0 flex-col overflow-hidden rounded-lg border border-line bg-surface ${className}`}
    >
      <div className="flex min-h-10 flex-wrap items-center gap-x-3 gap-y-1 px-3.5 py-1.5">
        <h2 id={heading} className="text-sm font-semibold text-ink">
          {title}
        </h2>
        {hint === undefined ? null : <span className="text-xs text-ink-3">{hint}</span>}
        {actions === undefined ? null : <div className="ml-auto flex items-center gap-1">{actions}</div>}
      </div>
      <div className={`flex min-h-0 flex-1 flex-col ${flush ? "border-t border-line" : "px-3.5 pb-3.5"}`}>
        {children}
      </div>
    </section>
  );
}

interface PageProps {
  /** Fills the window's height, for views whose table or timeline scrolls by itself. */
  fill?: boolean;
  children: ReactNode;
}

export function Page({ fill = false, children }: PageProps) {
  return <div className={`flex min-w-0 flex-col gap-3 p-4 ${fill ? "h-full min-h-0" : ""}`}>{children}</div>;
}
