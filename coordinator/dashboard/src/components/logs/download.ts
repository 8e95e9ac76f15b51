// Hands a text to the reader as a file. The page's own text: nothing is fetched and nothing leaves the browser.

export function downloadText(name: string, text: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken the address when the click returns, and needs it for a moment longer.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** "strata-logs-2026-11-22T14-02-11.jsonl": sorts by time, and every file system takes it. */
export function fileName(what: string, at: Date, ending: string): string {
  return `strata-${what}-${at.toISOString().slice(0, 19).replaceAll(":", "-")}.${ending}`;
}
