// The frame of every chart: its title, its controls, and the switch between the picture and a real table.
import { type ReactNode, useId, useState } from "react";
import { IconButton } from "~/components/Button";

export interface ChartTable {
  columns: readonly string[];
  /** Texts as they are shown; the first of each row is its header. */
  rows: readonly (readonly string[])[];
}

interface ChartFrameProps {
  title: string;
  hint?: ReactNode;
  /** Controls beside the title. */
  actions?: ReactNode;
  /** Made only when it is shown. */
  table: () => ChartTable;
  height: number;
  children: ReactNode;
}

export function ChartFrame({ title, hint, actions, table, height, children }: ChartFrameProps) {
  const [asTable, setAsTable] = useState(false);
  const heading = useId();
  return (
    <section
      aria-labelledby={heading}
      className="flex min-w-0 flex-col overflow-hidden rounded-lg border border-line bg-surface"
    >
      <div className="flex min-h-10 items-center gap-3 px-3.5 py-1.5">
        <h2 id={heading} className="truncate text-sm font-semibold text-ink">
          {title}
        </h2>
        {hint === undefined ? null : <span className="truncate text-xs text-ink-3">{hint}</span>}
        <div className="ml-auto flex items-center gap-0.5">
          {actions}
          <IconButton
            icon={asTable ? "chart" : "table"}
            label={asTable ? `Show ${title} as a chart` : `Show ${title} as a table`}
            onClick={() => setAsTable(!asTable)}
          />
        </div>
      </div>
      {asTable ? <TableTwin caption={title} table={table()} height={height} /> : children}
    </section>
  );
}

interface TableTwinProps {
  caption: string;
  table: ChartTable;
  height: number;
}

/** The same data as rows. It stands still while it is read: a new look is a press of the button. */
function TableTwin({ caption, table, height }: TableTwinProps) {
  return (
    <section
      aria-label={`${caption}, as a table`}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
      className="overflow-auto border-t border-line"
      style={{ height }}
    >
      <table className="w-full text-xs">
        <caption className="sr-only">{caption}</caption>
        <thead className="sticky top-0 bg-surface text-ink-3">
          <tr>
            {table.columns.map((column, index) => (
              <th
                key={column}
                scope="col"
                className={`px-3.5 py-1.5 font-medium ${index === 0 ? "text-left" : "text-right"}`}
              >
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, number) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: rows of data without an id of their own
            <tr key={number} className="border-t border-line">
              {row.map((cell, index) =>
                index === 0 ? (
                  <th key={table.columns[index]} scope="row" className="px-3.5 py-1 text-left font-normal text-ink-2">
                    {cell}
                  </th>
                ) : (
                  <td key={table.columns[index]} className="px-3.5 py-1 text-right text-ink">
                    {cell}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
      {table.rows.length > 0 ? null : <p className="px-3.5 py-6 text-center text-ink-2">Nothing was measured yet.</p>}
    </section>
  );
}
