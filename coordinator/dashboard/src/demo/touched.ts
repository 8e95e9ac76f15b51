// What has changed since it was told last, by table and by section.

export const TABLES = ["workers", "datasets", "checkpoints", "barriers", "tasks"] as const;
export type Table = (typeof TABLES)[number];
export type Section =
  | "coordinator"
  | "metrics"
  | "goodput"
  | "barrier_statistics"
  | "functions"
  | "alerts"
  | "hangs"
  | "rebalances"
  | "certificates";

export class Touched {
  rows: Record<Table, Set<string>> = Touched.#none();
  sections = new Set<Section>();

  static #none(): Record<Table, Set<string>> {
    return { workers: new Set(), datasets: new Set(), checkpoints: new Set(), barriers: new Set(), tasks: new Set() };
  }

  row(table: Table, id: string): void {
    this.rows[table].add(id);
  }

  section(section: Section): void {
    this.sections.add(section);
  }

  clear(): void {
    this.rows = Touched.#none();
    this.sections = new Set();
  }
}
