// The order of names: as people count, so that "worker-9" comes before "worker-10". One collator for the whole page:
// making one costs more than a thousand comparisons.
const COLLATOR = new Intl.Collator("en", { numeric: true });

export function compareNames(a: string, b: string): number {
  return COLLATOR.compare(a, b);
}
