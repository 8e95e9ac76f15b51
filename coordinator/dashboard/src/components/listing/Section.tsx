// A part of a drawer under its own heading.
import { type ReactNode, useId } from "react";

export function Section({ title, children }: { title: string; children: ReactNode }) {
  const heading = useId();
  return (
    <section aria-labelledby={heading}>
      <h3 id={heading} className="mb-1.5 text-xs font-semibold text-ink-3">
        {title}
      </h3>
      {children}
    </section>
  );
}
