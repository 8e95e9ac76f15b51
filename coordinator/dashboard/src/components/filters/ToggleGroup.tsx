// Any of some words: each is a button that is pressed or not; none pressed shows all.
import { Icon, type IconName } from "~/components/Icon";
import { formatCount } from "~/format/format";

export interface Toggle {
  value: string;
  label: string;
  icon?: IconName;
  /** How many rows it would show. */
  count?: number;
}

interface ToggleGroupProps {
  label: string;
  options: readonly Toggle[];
  chosen: ReadonlySet<string>;
  onChange: (chosen: ReadonlySet<string>) => void;
}

export function ToggleGroup({ label, options, chosen, onChange }: ToggleGroupProps) {
  const toggle = (value: string) => {
    const next = new Set(chosen);
    if (!next.delete(value)) next.add(value);
    onChange(next);
  };
  return (
    <fieldset className="flex flex-wrap gap-1">
      <legend className="sr-only">{label}</legend>
      {options.map(({ value, label: word, icon, count }) => (
        <button
          key={value}
          type="button"
          aria-pressed={chosen.has(value)}
          className="inline-flex h-7 items-center gap-1.5 rounded-md border border-line bg-surface px-2 text-xs text-ink-2 hover:bg-hover aria-pressed:border-accent aria-pressed:bg-selected aria-pressed:text-ink"
          onClick={() => toggle(value)}
        >
          {icon === undefined ? null : <Icon name={icon} size={12} />}
          {word} {count === undefined ? null : <span className="font-semibold">{formatCount(count)}</span>}
        </button>
      ))}
    </fieldset>
  );
}
