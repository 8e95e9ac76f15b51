// The line above a list: a search, filters by what a row is, how many rows are left, and buttons at the end.
import { type ReactNode, useId } from "react";
import { Icon, type IconName } from "./Icon";

interface SearchFieldProps {
  value: string;
  onChange: (value: string) => void;
  /** "Search workers" */
  label: string;
}

/** `/` moves the focus here; Escape empties it. */
export function SearchField({ value, onChange, label }: SearchFieldProps) {
  return (
    <label className="flex h-7 min-w-40 flex-1 items-center gap-2 rounded-md border border-line-strong bg-surface px-2 text-ink-3 focus-within:border-accent focus-within:outline-1 focus-within:outline-accent sm:max-w-72">
      <Icon name="search" size={13} />
      <span className="sr-only">{label}</span>
      <input
        type="search"
        data-search=""
        value={value}
        placeholder={label}
        maxLength={256}
        autoComplete="off"
        spellCheck={false}
        className="w-full min-w-0 bg-transparent text-sm text-ink outline-none placeholder:text-ink-3 [&::-webkit-search-cancel-button]:hidden"
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          if (value === "") event.currentTarget.blur();
          else onChange("");
        }}
      />
      {value === "" ? (
        <span aria-hidden="true" className="rounded border border-line px-1 font-mono text-2xs">
          /
        </span>
      ) : null}
    </label>
  );
}

export interface Option {
  value: string;
  label: string;
  icon?: IconName;
  /** How many rows it would show. */
  count?: number;
}

interface ToggleGroupProps {
  label: string;
  options: readonly Option[];
  /** None chosen shows all. */
  chosen: ReadonlySet<string>;
  onChange: (chosen: ReadonlySet<string>) => void;
}

/** Any of some: each is a button that is pressed or not. */
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
          {word}
          {count === undefined ? null : <span className="font-semibold">{count}</span>}
        </button>
      ))}
    </fieldset>
  );
}

interface SelectProps {
  label: string;
  value: string;
  options: readonly Option[];
  onChange: (value: string) => void;
}

/** One of some. */
export function Select({ label, value, options, onChange }: SelectProps) {
  const id = useId();
  return (
    <div className="flex items-center gap-2 text-xs">
      <label htmlFor={id} className="text-ink-3">
        {label}
      </label>
      <select
        id={id}
        value={value}
        className="h-7 rounded-md border border-line-strong bg-surface px-1.5 text-xs text-ink"
        onChange={(event) => onChange(event.target.value)}
      >
        {options.map((option) => (
          <option key={option.value} value={option.value}>
            {option.label}
          </option>
        ))}
      </select>
    </div>
  );
}

interface FilterBarProps {
  children: ReactNode;
  /** "12 of 1,000 workers"; read aloud when it changes. */
  result?: string;
  actions?: ReactNode;
}

export function FilterBar({ children, result, actions }: FilterBarProps) {
  return (
    <search className="flex flex-wrap items-center gap-2">
      {children}
      <span aria-live="polite" className="ml-auto text-xs text-ink-3">
        {result}
      </span>
      {actions}
    </search>
  );
}
