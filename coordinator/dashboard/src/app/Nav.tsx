// The navigation at the left: every view, and which of them is open.
import { Link, useLocation } from "wouter";
import { Icon } from "~/components/Icon";
import { VIEWS, viewOf } from "./views";

export function Logo() {
  return (
    <svg
      aria-hidden="true"
      className="size-5 shrink-0"
      viewBox="0 0 24 24"
      fill="none"
      strokeWidth="2"
      strokeLinejoin="round"
      strokeLinecap="round"
    >
      <path d="M12 3 21 7.6 12 12.2 3 7.600Z" className="fill-accent" />
      <path d="m3.5 12 8.5 4.400L20.5 12" className="stroke-teal" />
      <path d="m3.5 16.5 8.5 4.4 8.5-4.4" className="stroke-warn" />
    </svg>
  );
}

const GROUPS: readonly (readonly string[])[] = [
  ["overview", "timeline", "workers"],
  ["data", "checkpoints", "barriers"],
  ["functions", "jobs"],
  ["activity", "logs", "settings"],
];

export function Nav() {
  const [path] = useLocation();
  const current = viewOf(path);
  return (
    <nav
      aria-label="Views"
      className="flex h-full w-13 shrink-0 flex-col gap-3 overflow-y-auto border-r border-line bg-surface px-2 py-3 lg:w-48"
    >
      <Link
        href="/"
        aria-label="Strata, overview"
        className="flex h-7 items-center gap-2 rounded-md px-2 text-base font-semibold tracking-tight text-ink"
      >
        <Logo />
        <span className="hidden lg:inline">Strata</span>
      </Link>
      {GROUPS.map((group) => (
        <ul
          key={group.join()}
          className="flex flex-col gap-px border-t border-line pt-3 first-of-type:border-0 first-of-type:pt-0"
        >
          {VIEWS.filter((view) => group.includes(view.id)).map((view) => {
            const active = view.id === current?.id;
            return (
              <li key={view.id}>
                <Link
                  href={view.path}
                  aria-current={active ? "page" : undefined}
                  aria-keyshortcuts={`g ${view.key}`}
                  aria-label={view.title}
                  title={`${view.title}: ${view.purpose} (g ${view.key})`}
                  className={`flex h-7 items-center gap-2.5 rounded-md px-2 text-sm transition-colors ${
                    active ? "bg-selected font-medium text-ink" : "text-ink-2 hover:bg-hover hover:text-ink"
                  }`}
                >
                  <Icon name={view.icon} className={active ? "text-accent" : "text-ink-3"} />
                  <span className="hidden lg:inline">{view.title}</span>
                </Link>
              </li>
            );
          })}
        </ul>
      ))}
    </nav>
  );
}
