// The strip above a view: which job this is, what view is open, the connection, the theme and the help.
import { IconButton } from "~/components/Button";
import { Icon, type IconName } from "~/components/Icon";
import { useDashboard } from "~/data/context";
import { setThemeChoice, THEME_CHOICES, type ThemeChoice, useThemeChoice } from "~/theme/theme";
import { ConnectionMark } from "./Connection";

const THEME_ICONS: Record<ThemeChoice, IconName> = { system: "monitor", light: "sun", dark: "moon" };

function ThemeSwitch() {
  const chosen = useThemeChoice();
  return (
    <fieldset className="flex rounded-md border border-line p-px">
      <legend className="sr-only">Theme</legend>
      {THEME_CHOICES.map((choice) => (
        <label
          key={choice}
          title={`Theme: ${choice}`}
          className="flex h-6 w-7 cursor-pointer items-center justify-center rounded text-ink-3 hover:text-ink has-checked:bg-selected has-checked:text-accent has-focus-visible:outline-2 has-focus-visible:outline-accent"
        >
          <input
            type="radio"
            name="theme"
            className="sr-only"
            checked={choice === chosen}
            onChange={() => setThemeChoice(choice)}
          />
          <Icon name={THEME_ICONS[choice]} size={14} />
          <span className="sr-only">{choice}</span>
        </label>
      ))}
    </fieldset>
  );
}

interface HeaderProps {
  title: string;
  onHelp: () => void;
}

export function Header({ title, onHelp }: HeaderProps) {
  const job = useDashboard((state) => state?.coordinator.job ?? null);
  return (
    <header className="flex h-12 shrink-0 items-center gap-3 border-b border-line bg-surface px-4">
      <div className="flex min-w-0 items-center gap-2">
        {job === null ? null : (
          <>
            <span className="hidden max-w-64 truncate text-sm text-ink-3 sm:inline" title={`Job ${job}`}>
              {job}
            </span>
            <Icon name="chevron-right" size={12} className="hidden text-ink-3 sm:block" />
          </>
        )}
        <h1 className="truncate text-base font-semibold text-ink">{title}</h1>
      </div>
      <div className="ml-auto flex items-center gap-2.5">
        <div aria-live="polite">
          <ConnectionMark />
        </div>
        <ThemeSwitch />
        <IconButton aria-keyshortcuts="?" icon="keyboard" label="Keyboard shortcuts" onClick={onHelp} />
      </div>
    </header>
  );
}
