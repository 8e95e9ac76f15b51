// The list of shortcuts, as a modal dialog of the browser's own.
import { type ReactNode, useEffect, useRef } from "react";
import { IconButton } from "~/components/Button";
import { setShortcutsEnabled, useShortcutsEnabled } from "./shortcuts";
import { VIEWS } from "./views";

function Key({ children }: { children: ReactNode }) {
  return (
    <kbd className="inline-flex h-5 min-w-5 items-center justify-center rounded border border-line bg-sunken px-1 font-mono text-2xs text-ink-2">
      {children}
    </kbd>
  );
}

function Row({ keys, children }: { keys: readonly string[]; children: ReactNode }) {
  return (
    <div className="flex items-center justify-between gap-4 py-1">
      <dt className="text-ink-2">{children}</dt>
      <dd className="flex gap-1">
        {keys.map((key) => (
          <Key key={key}>{key}</Key>
        ))}
      </dd>
    </div>
  );
}

export function ShortcutHelp({ open, onClose }: { open: boolean; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const enabled = useShortcutsEnabled();
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog
      ref={dialog}
      aria-labelledby="shortcut-help"
      className="m-auto w-[min(44rem,calc(100vw-2rem))] rounded-lg border border-line bg-raised p-5 text-ink shadow-float backdrop:bg-[rgb(0_0_0/45%)]"
      onClose={onClose}
    >
      <div className="mb-3 flex items-center justify-between">
        <h2 id="shortcut-help" className="text-lg font-semibold">
          Keyboard
        </h2>
        <IconButton icon="close" label="Close" onClick={onClose} />
      </div>
      <div className="grid gap-x-10 gap-y-4 sm:grid-cols-2">
        <section>
          <h3 className="mb-1 text-xs font-semibold text-ink-3">Go to</h3>
          <dl>
            {VIEWS.map((view) => (
              <Row key={view.id} keys={["g", view.key]}>
                {view.title}
              </Row>
            ))}
          </dl>
        </section>
        <div className="flex flex-col gap-4">
          <section>
            <h3 className="mb-1 text-xs font-semibold text-ink-3">Anywhere</h3>
            <dl>
              <Row keys={["/"]}>Search in this view</Row>
              <Row keys={["?"]}>Show this list</Row>
              <Row keys={["Esc"]}>Close a drawer or a dialog</Row>
            </dl>
          </section>
          <section>
            <h3 className="mb-1 text-xs font-semibold text-ink-3">In a table</h3>
            <dl>
              <Row keys={["↑", "↓"]}>Previous or next row</Row>
              <Row keys={["Home", "End"]}>First or last row</Row>
              <Row keys={["Enter"]}>Open the row</Row>
            </dl>
          </section>
          <section>
            <h3 className="mb-1 text-xs font-semibold text-ink-3">In the timeline</h3>
            <dl>
              <Row keys={["←", "→"]}>Earlier or later</Row>
              <Row keys={["+", "−"]}>Zoom</Row>
              <Row keys={["Space"]}>Pause or follow</Row>
              <Row keys={["End"]}>Back to now</Row>
            </dl>
          </section>
        </div>
      </div>
      <label className="mt-5 flex items-center gap-2 border-t border-line pt-4 text-ink-2">
        <input
          type="checkbox"
          className="size-4 accent-accent"
          checked={enabled}
          onChange={(event) => setShortcutsEnabled(event.target.checked)}
        />
        Shortcuts of a single key are on
      </label>
    </dialog>
  );
}
