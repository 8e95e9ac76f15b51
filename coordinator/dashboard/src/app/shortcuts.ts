// Single-key shortcuts: `g` and a letter opens a view, `/` searches, `?` helps. They rest while somebody types, and a
// reader whose voice or switch sets them off by mistake can turn them off (WCAG 2.1.4).
import { useEffect, useSyncExternalStore } from "react";
import { useLocation } from "wouter";
import { VIEWS } from "./views";

const KEY = "strata.shortcuts";
/** After `g`, this long for the letter. */
const SEQUENCE_MS = 1500;
const listeners = new Set<() => void>();

function readEnabled(): boolean {
  try {
    return localStorage.getItem(KEY) !== "off";
  } catch {
    return true;
  }
}

let enabled = readEnabled();

export function setShortcutsEnabled(next: boolean): void {
  enabled = next;
  try {
    localStorage.setItem(KEY, next ? "on" : "off");
  } catch {
    // Without storage the choice holds until the page is left.
  }
  for (const listener of listeners) listener();
}

export function useShortcutsEnabled(): boolean {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => enabled,
  );
}

export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

/** Moves the focus to the search field of the view that is shown; a view marks it with `data-search`. */
export function focusSearch(): boolean {
  const field = document.querySelector<HTMLInputElement>("main [data-search]");
  field?.focus();
  field?.select();
  return field !== null;
}

export function useShortcuts(showHelp: () => void): void {
  const [, navigate] = useLocation();
  useEffect(() => {
    let armedAt = Number.NEGATIVE_INFINITY;
    const onKey = (event: KeyboardEvent) => {
      if (!enabled || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (isTyping(event.target)) return;
      const armed = event.timeStamp - armedAt <= SEQUENCE_MS;
      armedAt = Number.NEGATIVE_INFINITY;
      const view = armed ? VIEWS.find(({ key }) => key === event.key) : undefined;
      if (view !== undefined) navigate(view.path);
      else if (event.key === "g") armedAt = event.timeStamp;
      else if (event.key === "?") showHelp();
      else if (event.key !== "/" || !focusSearch()) return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [navigate, showHelp]);
}
