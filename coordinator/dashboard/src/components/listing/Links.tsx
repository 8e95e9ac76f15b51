// Links from a row to what it names. A click on one does not open the row that it stands in.
import type { ReactNode } from "react";
import { Link } from "wouter";

/** A target of 24 pixels in a row of 30, as WCAG 2.5.8 asks for. */
const LOOK =
  "inline-block max-w-full truncate py-0.5 align-middle text-ink underline decoration-line-strong underline-offset-2 hover:text-accent hover:decoration-current";

interface RowLinkProps {
  href: string;
  title?: string;
  children: ReactNode;
}

export function RowLink({ href, title, children }: RowLinkProps) {
  return (
    <Link href={href} title={title} className={LOOK} onClick={(event) => event.stopPropagation()}>
      {children}
    </Link>
  );
}

export function WorkerLink({ id }: { id: string }) {
  return (
    <RowLink href={`/workers/${encodeURIComponent(id)}`} title={`Worker ${id}`}>
      {id}
    </RowLink>
  );
}

/** The first names as links, and how many there are beyond them. */
export function WorkerLinks({
  ids,
  total = ids.length,
  most = 3,
}: {
  ids: readonly string[];
  total?: number;
  most?: number;
}) {
  const shown = ids.slice(0, most);
  const rest = Math.max(total, ids.length) - shown.length;
  return (
    <>
      {shown.map((id, index) => (
        <span key={id}>
          {index === 0 ? "" : ", "}
          <WorkerLink id={id} />
        </span>
      ))}
      {rest > 0 ? <span className="text-ink-3"> and {rest} more</span> : null}
    </>
  );
}
