// Text as a program wrote it: a stack, a command, a value. It is shown, never run, and can be copied.
import { useState } from "react";
import { IconButton } from "~/components/Button";

interface CodeBlockProps {
  label: string;
  text: string;
  /** A CSS length after which it scrolls. */
  maxHeight?: string;
}

export function CodeBlock({ label, text, maxHeight = "20rem" }: CodeBlockProps) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      // A page over plain HTTP on another host may not write to the clipboard: the text can still be marked.
      setCopied(false);
    }
  };
  return (
    <div className="relative rounded-md border border-line bg-sunken">
      <section
        aria-label={label}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        className="overflow-auto p-3 pr-10"
        style={{ maxHeight }}
      >
        <pre className="font-mono text-xs whitespace-pre text-ink">{text}</pre>
      </section>
      <span className="absolute top-1.5 right-1.5">
        <IconButton icon={copied ? "check" : "copy"} label={copied ? "Copied" : `Copy ${label}`} onClick={copy} />
      </span>
    </div>
  );
}
