// The frame around every view: skip link, navigation, header, banners, and the view itself as the main landmark.
import { Suspense, useCallback, useEffect, useRef, useState } from "react";
import { Link, useLocation } from "wouter";
import { EmptyState, Loading } from "~/components/EmptyState";
import { useDashboard } from "~/data/context";
import { SimulatedRibbon, StaleBanner } from "./Connection";
import { ErrorBoundary } from "./ErrorBoundary";
import { Header } from "./Header";
import { Nav } from "./Nav";
import { ShortcutHelp } from "./ShortcutHelp";
import { useShortcuts } from "./shortcuts";
import { viewOf } from "./views";

function NoSuchPage() {
  return (
    <EmptyState
      icon="question"
      title="There is no such page"
      action={
        <Link href="/" className="text-sm font-medium text-accent underline underline-offset-2">
          Go to the overview
        </Link>
      }
    >
      The address may be of another version of the dashboard, or mistyped. The navigation lists every view.
    </EmptyState>
  );
}

export function Shell() {
  const [path] = useLocation();
  const view = viewOf(path);
  const title = view?.title ?? "Not found";
  const job = useDashboard((state) => state?.coordinator.job ?? null);
  const [help, setHelp] = useState(false);
  const main = useRef<HTMLElement>(null);
  const shown = useRef(view?.id);
  useShortcuts(useCallback(() => setHelp(true), []));

  useEffect(() => {
    document.title = [title, job, "Strata"].filter((part) => part !== null).join(" · ");
  }, [title, job]);

  // Another view begins at its top, and its reader is told: the focus moves to it as it would to a new page.
  useEffect(() => {
    if (shown.current === view?.id) return;
    shown.current = view?.id;
    main.current?.scrollTo({ top: 0 });
    main.current?.focus({ preventScroll: true });
  }, [view?.id]);

  return (
    <div className="flex h-full flex-col">
      <a
        href="#main"
        className="sr-only z-50 rounded-md bg-accent px-3 py-1.5 text-accent-ink focus:not-sr-only focus:absolute focus:top-2 focus:left-2"
      >
        Skip to the content
      </a>
      <SimulatedRibbon />
      <div className="flex min-h-0 flex-1">
        <Nav />
        <div className="flex min-w-0 flex-1 flex-col">
          <Header title={title} onHelp={() => setHelp(true)} />
          <div className="empty:hidden px-4 pt-3">
            <StaleBanner />
          </div>
          <div id="drawers" className="relative flex min-h-0 flex-1 flex-col">
            <main
              ref={main}
              id="main"
              tabIndex={-1}
              aria-label={title}
              className="relative min-h-0 flex-1 overflow-y-auto focus-visible:outline-none"
            >
              <ErrorBoundary resetKey={path}>
                <Suspense fallback={<Loading label={`Loading ${title}`} />}>
                  {view === undefined ? <NoSuchPage /> : <view.Component />}
                </Suspense>
              </ErrorBoundary>
            </main>
          </div>
        </div>
      </div>
      <ShortcutHelp open={help} onClose={() => setHelp(false)} />
    </div>
  );
}
