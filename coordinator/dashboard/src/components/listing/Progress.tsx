// How far something is, as a bar; the figures stand beside it as text, so it says nothing to a screen reader.

interface ProgressProps {
  /** A part of one. */
  share: number;
  token?: string;
}

export function Progress({ share, token = "series-1" }: ProgressProps) {
  return (
    <span
      aria-hidden="true"
      className="block h-1.5 min-w-12 flex-1 overflow-hidden rounded-full bg-sunken ring-1 ring-line"
    >
      <span
        className="block h-full rounded-full"
        style={{ background: `var(--${token})`, width: `${Math.max(0, Math.min(1, share)) * 100}%` }}
      />
    </span>
  );
}
