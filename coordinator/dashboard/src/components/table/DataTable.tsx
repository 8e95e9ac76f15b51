// A table of any length: only the rows in sight exist. Sorted by its headers, moved through with the keyboard.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, memo, type ReactNode, useCallback, useId, useMemo, useRef, useState } from "react";
import { Icon } from "~/components/Icon";
import { type Column, keyTarget, nextSort, type Sort, searchRows, sortRows } from "./order";

const ROW_HEIGHT_PX = 30;

export interface DataTableProps<R> {
  /** What the table lists, for a screen reader. */
  label: string;
  rows: readonly R[];
  columns: readonly Column<R>[];
  rowKey: (row: R) => string;
  /** Shows only rows that have all of its words. */
  search?: string;
  initialSort?: Sort | null;
  /** Controlled sort, for an address that keeps it. */
  sort?: Sort | null;
  onSortChange?: (sort: Sort | null) => void;
  /** Called with a row that is clicked, or chosen with Enter. */
  onOpen?: (row: R) => void;
  /** The row whose drawer is open. */
  openKey?: string | null;
  /** Shown in place of rows; another text where a search found nothing. */
  empty?: ReactNode;
  /** The height where the table does not fill its box: a CSS length. */
  height?: string;
}

export function DataTable<R>(props: DataTableProps<R>) {
  const { label, rows, columns, rowKey, search = "", onOpen, openKey = null, empty, height } = props;
  const [ownSort, setOwnSort] = useState<Sort | null>(props.initialSort ?? null);
  const sort = props.sort === undefined ? ownSort : props.sort;
  const [activeKey, setActiveKey] = useState<string | null>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const id = useId();

  const shown = useMemo(
    () => sortRows(searchRows(rows, columns, search), columns, sort),
    [rows, columns, search, sort],
  );
  const found = activeKey === null ? -1 : shown.findIndex((row) => rowKey(row) === activeKey);
  const keyOf = useRef(rowKey);
  keyOf.current = rowKey;
  // With another function all rows are measured anew.
  const keyAt = useCallback(
    (index: number) => {
      const row = shown[index];
      return row === undefined ? index : keyOf.current(row);
    },
    [shown],
  );
  const virtual = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT_PX,
    overscan: 8,
    getItemKey: keyAt,
  });
  const tracks = columns.map((column) => column.width ?? "minmax(6rem, 1fr)").join(" ");

  const changeSort = (column: string) => {
    const next = nextSort(sort, column);
    if (props.sort === undefined) setOwnSort(next);
    props.onSortChange?.(next);
  };

  const activate = (index: number) => {
    const row = shown[index];
    if (row === undefined) return;
    setActiveKey(rowKey(row));
    virtual.scrollToIndex(shown.indexOf(row), { align: "auto" });
  };

  const page = () => Math.max(1, Math.floor((scroller.current?.clientHeight ?? 0) / ROW_HEIGHT_PX) - 2);
  const onKey = (event: KeyboardEvent) => {
    if (event.target !== event.currentTarget) return;
    const target = keyTarget(event.key, found, shown.length, page());
    const active = shown[found];
    if (target !== null) activate(target);
    else if (event.key === "Enter" && active !== undefined) onOpen?.(active);
    else return;
    event.preventDefault();
  };

  const latest = useRef(onOpen);
  latest.current = onOpen;
  const pick = useCallback((row: R, key: string) => {
    setActiveKey(key);
    latest.current?.(row);
  }, []);

  return (
    <div className="flex min-h-0 flex-1 flex-col" style={height === undefined ? undefined : { height, flex: "none" }}>
      {/* biome-ignore lint/a11y/useSemanticElements: a virtual list of rows cannot be a <table> */}
      <div
        ref={scroller}
        role="grid"
        aria-label={label}
        aria-rowcount={shown.length + 1}
        aria-colcount={columns.length}
        aria-activedescendant={found < 0 ? undefined : `${id}-${found}`}
        tabIndex={0}
        className="min-h-0 flex-1 overflow-auto focus-visible:outline-2 focus-visible:-outline-offset-2"
        onKeyDown={onKey}
      >
        <div className="min-w-max">
          {/* biome-ignore lint/a11y/useFocusableInteractive: the grid has the focus, and points to its row */}
          {/* biome-ignore lint/a11y/useSemanticElements: see above */}
          <div
            role="row"
            aria-rowindex={1}
            className="sticky top-0 z-10 grid h-8 items-stretch gap-x-3 border-b border-line bg-surface px-3.5"
            style={{ gridTemplateColumns: tracks }}
          >
            {columns.map((column) => (
              <HeaderCell key={column.id} column={column} sort={sort} onSort={changeSort} />
            ))}
          </div>
          <div className="relative" style={{ height: virtual.getTotalSize() }}>
            {virtual.getVirtualItems().map((item) => {
              const row = shown[item.index];
              if (row === undefined) return null;
              const key = rowKey(row);
              return (
                <TableRow
                  key={key}
                  row={row}
                  rowKey={key}
                  id={`${id}-${item.index}`}
                  index={item.index}
                  columns={columns}
                  tracks={tracks}
                  start={item.start}
                  size={item.size}
                  selected={key === openKey}
                  active={item.index === found}
                  onPick={onOpen === undefined ? undefined : pick}
                />
              );
            })}
          </div>
        </div>
        {shown.length > 0 ? null : rows.length > 0 && search !== "" ? (
          <p className="px-4 py-10 text-center text-ink-2">Nothing here has “{search}”. Search for less.</p>
        ) : (
          (empty ?? <p className="px-4 py-10 text-center text-ink-2">Nothing to list.</p>)
        )}
      </div>
    </div>
  );
}

interface TableRowProps<R> {
  row: R;
  rowKey: string;
  id: string;
  index: number;
  columns: readonly Column<R>[];
  tracks: string;
  start: number;
  size: number;
  selected: boolean;
  active: boolean;
  /** Stays the same function, so that a row is drawn anew only when it has changed. */
  onPick: ((row: R, key: string) => void) | undefined;
}

function PlainRow<R>(props: TableRowProps<R>) {
  const { row, columns, selected, active, onPick } = props;
  const look = selected ? "bg-selected" : onPick === undefined ? "" : "hover:bg-hover";
  return (
    // biome-ignore lint/a11y/useSemanticElements: a virtual list of rows cannot be a <table>
    // biome-ignore lint/a11y/useFocusableInteractive: the grid has the focus, and points to its row
    // biome-ignore lint/a11y/useKeyWithClickEvents: the grid answers Enter
    <div
      id={props.id}
      role="row"
      aria-rowindex={props.index + 2}
      aria-selected={selected}
      className={`absolute inset-x-0 grid contain-strict items-center gap-x-3 border-b border-line px-3.5 text-sm ${look} ${
        onPick === undefined ? "" : "cursor-pointer"
      } ${active ? "outline-2 -outline-offset-2 outline-accent" : ""}`}
      style={{ gridTemplateColumns: props.tracks, height: props.size, transform: `translateY(${props.start}px)` }}
      onClick={() => onPick?.(row, props.rowKey)}
    >
      {columns.map((column) => (
        // biome-ignore lint/a11y/useSemanticElements: see above
        // biome-ignore lint/a11y/useFocusableInteractive: see above
        <div
          key={column.id}
          role="gridcell"
          className={`min-w-0 truncate ${column.align === "end" ? "text-right" : ""}`}
        >
          {column.cell(row)}
        </div>
      ))}
    </div>
  );
}

const TableRow = memo(PlainRow) as typeof PlainRow;

interface HeaderCellProps<R> {
  column: Column<R>;
  sort: Sort | null;
  onSort: (column: string) => void;
}

function HeaderCell<R>({ column, sort, onSort }: HeaderCellProps<R>) {
  const mine = sort?.column === column.id ? sort : null;
  const end = column.align === "end" ? "justify-end text-right" : "";
  const direction = mine === null ? "none" : mine.descending ? "descending" : "ascending";
  return (
    // biome-ignore lint/a11y/useSemanticElements: a virtual list of rows cannot be a <table>
    // biome-ignore lint/a11y/useFocusableInteractive: the button inside has the focus
    <div
      role="columnheader"
      aria-sort={column.sort === undefined ? undefined : direction}
      title={column.title}
      className={`flex min-w-0 items-center text-xs font-medium text-ink-3 ${end}`}
    >
      {column.sort === undefined ? (
        <span className="truncate">{column.header}</span>
      ) : (
        <button
          type="button"
          className={`group flex min-w-0 items-center gap-1 hover:text-ink ${mine === null ? "" : "text-ink"} ${
            column.align === "end" ? "flex-row-reverse" : ""
          }`}
          onClick={() => onSort(column.id)}
        >
          <span className="truncate">{column.header}</span>
          <Icon
            name={mine === null ? "sort" : mine.descending ? "arrow-down" : "arrow-up"}
            size={11}
            className={mine === null ? "opacity-0 group-hover:opacity-100 group-focus-visible:opacity-100" : ""}
          />
        </button>
      )}
    </div>
  );
}
