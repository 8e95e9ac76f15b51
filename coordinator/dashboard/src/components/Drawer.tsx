// A panel at the right that shows one row in full, while the page behind it goes on.
import { type ReactNode, useEffect, useId, useRef } from "react";
import { createPortal } from "react-dom";
import { IconButton } from "./Button";

interface DrawerProps {
  title: ReactNode;
  /** Beside the title: a state, a rank. */
  badge?: ReactNode;
  onClose: () => void;
  children: ReactNode;
  /** A change of this is another row: the drawer begins at its top. */
  resetKey?: string;
}

export function Drawer({ title, badge, onClose, children, resetKey = "" }: DrawerProps) {
  const heading = useId();
  const panel = useRef<HTMLElement>(null);
  const body = useRef<HTMLDivElement>(null);
  const close = useRef(onClose);
  close.current = onClose;

  // The focus comes in, and goes back to where it was when the drawer is closed.
  useEffect(() => {
    const before = document.activeElement;
    panel.current?.focus({ preventScroll: true });
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    };
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: another row is the reason to scroll
  useEffect(() => {
    // Some browsers answer with a promise, which an effect may not hand on.
    void body.current?.scrollTo({ top: 0 });
  }, [resetKey]);

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      // A dialog above the drawer is closed by the browser, and nothing below it.
      if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]") !== null) return;
      close.current();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);

  // The shell keeps a place beside its <main>, so that the drawer does not scroll with the view.
  return createPortal(
    <aside
      ref={panel}
      aria-labelledby={heading}
      tabIndex={-1}
      className="absolute inset-y-0 right-0 z-30 flex w-[min(34rem,100vw)] animate-[drawer-in_140ms_ease-out] flex-col border-l border-line bg-raised shadow-float focus-visible:outline-none"
    >
      <div className="flex h-12 shrink-0 items-center gap-2.5 border-b border-line pr-2.5 pl-4">
        <h2 id={heading} className="min-w-0 truncate text-base font-semibold">
          {title}
        </h2>
        {badge}
        <span className="ml-auto" />
        <IconButton icon="close" label="Close" onClick={onClose} />
      </div>
      <div ref={body} className="min-h-0 flex-1 overflow-y-auto p-4">
        {children}
      </div>
    </aside>,
    document.getElementById("drawers") ?? document.body,
  );
}

/** Names and values of one thing, in two columns. */
export function Facts({ children }: { children: ReactNode }) {
  return <dl className="grid grid-cols-[max-content_minmax(0,1fr)] gap-x-5 gap-y-1.5 text-sm">{children}</dl>;
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt className="text-ink-3">{name}</dt>
      <dd className="min-w-0 break-words text-ink">{children}</dd>
    </>
  );
}
