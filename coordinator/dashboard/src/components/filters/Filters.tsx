// The controls above a list: a search field, a choice of a few words side by side, a choice from many, and their row.
import { type ReactNode, useId } from "react";
import { IconButton } from "~/components/Button";
import { Icon } from "~/components/Icon";
import { formatCount } from "~/format/format";

interface SearchFieldProps {
  /** What is searched: "Search events". */
  label: string;
  value: string;
  onChange: (value: string) => void;
}

/** The field that `/` moves the focus to; Escape empties it first, and leaves it then. */
export function SearchField({ label, value, onChange }: SearchFieldProps) {
  return (
    <div className="relative flex min-w-40 max-w-80 flex-1 items-center">
      <Icon name="search" size={14} className="pointer-events-none absolute left-2 text-ink-3" />
      <input
        type="search"
        data-search=""
        aria-label={label}
        aria-keyshortcuts="/"
        placeholder={label}
        autoComplete="off"
        spellCheck={false}
        value={value}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          if (value === "") event.currentTarget.blur();
          else onChange("");
        }}
        className="h-7 w-full rounded-md border border-line-strong bg-surface pr-7 pl-7 text-sm text-ink placeholder:text-ink-3 [&::-webkit-search-cancel-button]:hidden"
      />
      {value === "" ? null : (
        <span className="absolute right-0">
          <IconButton icon="close" label="Clear the search" onClick={() => onChange("")} />
        </span>
      )}
    </div>
  );
}

export interface Option<T extends string> {
  value: T;
  label: string;
  /** How many rows it would leave. */
  count?: number;
}

interface ChoiceProps<T extends string> {
  label: string;
  options: readonly Option<T>[];
  value: T;
  onChange: (value: T) => void;
}

/** A few words side by side, one of them chosen: radio buttons, moved through with the arrows. */
export function Segments<T extends string>({ label, options, value, onChange }: ChoiceProps<T>) {
  const name = useId();
  return (
    <fieldset className="flex min-w-0 flex-wrap rounded-md border border-line p-px">
      <legend className="sr-only">{label}</legend>
      {options.map((option) => (
        <label
          key={option.value}
          className="flex h-6 cursor-pointer items-center gap-1.5 rounded px-2 text-xs text-ink-2 hover:text-ink has-checked:bg-selected has-checked:font-medium has-checked:text-accent has-focus-visible:outline-2 has-focus-visible:outline-accent"
        >
          <input
            type="radio"
            name={name}
            className="sr-only"
            checked={option.value === value}
            onChange={() => onChange(option.value)}
          />
          {option.label}{" "}
          {option.count === undefined ? null : <span className="text-ink-3">{formatCount(option.count)}</span>}
        </label>
      ))}
    </fieldset>
  );
}

/** One of many: the browser's own list. */
export function Select<T extends string>({ label, options, value, onChange }: ChoiceProps<T>) {
  const known = options.some((option) => option.value === value);
  return (
    <label className="flex min-w-0 shrink-0 items-center gap-1.5 text-xs text-ink-3">
      {label}
      <select
        value={value}
        onChange={(event) => onChange(event.target.value as T)}
        className="h-7 max-w-48 rounded-md border border-line-strong bg-surface px-1.5 text-xs text-ink"
      >
        {options.map((option) => (
          <option key={option.value} value={option.value}>
            {option.label}
            {option.count === undefined ? "" : ` (${formatCount(option.count)})`}
          </option>
        ))}
        {known ? null : <option value={value}>{value}</option>}
      </select>
    </label>
  );
}

interface FilterBarProps {
  children: ReactNode;
  /** How much is shown of how much: "12 of 340 events"; read aloud when it changes. */
  status?: ReactNode;
}

export function FilterBar({ children, status }: FilterBarProps) {
  return (
    <search className="flex flex-wrap items-center gap-2">
      {children}
      {status === undefined ? null : <output className="ml-auto text-xs text-ink-3">{status}</output>}
    </search>
  );
}

/** "340 events", or while something is filtered "12 of 340 events". */
export function shownOf(shown: number, all: number, noun: string): string {
  const nouns = all === 1 ? noun : `${noun}s`;
  return shown === all ? `${formatCount(all)} ${nouns}` : `${formatCount(shown)} of ${formatCount(all)} ${nouns}`;
}
