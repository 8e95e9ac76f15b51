// A question before something that cannot be taken back, as a modal dialog of the browser's own.
import { type ReactNode, useEffect, useId, useRef } from "react";
import { Button } from "~/components/Button";

interface ConfirmDialogProps {
  title: string;
  /** What will happen, in a sentence. */
  children: ReactNode;
  /** The word on the button that does it: "Stop the job". */
  action: string;
  busy?: boolean;
  onConfirm: () => void;
  onCancel: () => void;
}

/** It is open as long as it is drawn. The focus begins at "Cancel". */
export function ConfirmDialog({ title, children, action, busy = false, onConfirm, onCancel }: ConfirmDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  const text = useId();
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={heading}
      aria-describedby={text}
      className="m-auto w-[min(28rem,calc(100vw-2rem))] rounded-lg border border-line bg-raised p-5 text-ink shadow-float backdrop:bg-[rgb(0_0_0/45%)]"
      onClose={onCancel}
    >
      <h2 id={heading} className="mb-2 text-lg font-semibold break-words">
        {title}
      </h2>
      <div id={text} className="text-sm text-ink-2">
        {children}
      </div>
      <div className="mt-5 flex justify-end gap-2">
        <Button onClick={() => dialog.current?.close()}>Cancel</Button>
        <Button weight="danger" icon="stop" disabled={busy} onClick={onConfirm}>
          {action}
        </Button>
      </div>
    </dialog>
  );
}
