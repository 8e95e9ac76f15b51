// The lines of a log, however many: only those in sight exist. It follows the end until somebody scrolls up, a line
// opens to its whole message and fields, and what was searched for is marked.
import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent,
  memo,
  type ReactNode,
  useCallback,
  useEffect,
  useId,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import type { LogLine } from "~/api/types";
import { Button } from "~/components/Button";
import { Icon, type IconName } from "~/components/Icon";
import { keyTarget } from "~/components/table/order";
import { TEXT, type Tone } from "~/components/tone";
import { formatClock, formatMoment, formatPlural } from "~/format/format";
import { fieldsText, highlight, type Level } from "./tail";

const LINE_PX = 22;
/** So near to the end counts as being there. */
const END_PX = 30;

const LEVEL_LOOKS: Record<Level, { icon: IconName; tone: Tone; word: string }> = {
  debug: { icon: "minus", tone: "neutral", word: "debug" },
  info: { icon: "info", tone: "info", word: "info" },
  warning: { icon: "warning", tone: "warn", word: "warn" },
  error: { icon: "x-circle", tone: "danger", word: "error" },
};

const NO_HOLES: ReadonlySet<number> = new Set();

interface LogListProps {
  /** What the lines are of, for a screen reader. */
  label: string;
  lines: readonly LogLine[];
  /** Numbers of lines above which some are missing. */
  holes?: ReadonlySet<number>;
  /** Marked in the messages. */
  search?: string;
  follow: boolean;
  onFollow: (follow: boolean) => void;
  /** Called when the first line comes into sight; only where there are earlier ones. */
  onReachTop?: (() => void) | undefined;
  empty?: ReactNode;
}

export function LogList(props: LogListProps) {
  const { label, lines, holes = NO_HOLES, search = "", follow, onFollow, onReachTop } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const id = useId();
  const [active, setActive] = useState<number | null>(null);
  const [opened, setOpened] = useState<ReadonlySet<number>>(new Set());
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => LINE_PX,
    overscan: 12,
    getItemKey: (index) => lines[index]?.number ?? index,
  });
  const first = lines[0]?.number ?? null;
  const last = lines.at(-1)?.number ?? null;

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new last line is the reason to scroll
  useLayoutEffect(() => {
    if (follow && lines.length > 0) virtual.scrollToIndex(lines.length - 1, { align: "end" });
  }, [follow, last]);

  // Lines that were put before the first must not move what is read.
  const anchor = useRef<number | null>(null);
  const before = useRef(first);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new first line is the reason to scroll
  useLayoutEffect(() => {
    const earlier = first !== null && before.current !== null && first < before.current;
    before.current = first;
    if (!earlier || follow || anchor.current === null) return;
    const index = lines.findIndex((line) => line.number === anchor.current);
    if (index > 0) virtual.scrollToIndex(index, { align: "start" });
  }, [first]);

  const items = virtual.getVirtualItems();
  const top = items[0]?.index ?? -1;
  const reachTop = useRef(onReachTop);
  reachTop.current = onReachTop;
  useEffect(() => {
    if (top === 0 && !follow) reachTop.current?.();
  }, [top, follow]);

  const found = active === null ? -1 : lines.findIndex((line) => line.number === active);
  const toggle = useCallback((number: number) => {
    setActive(number);
    setOpened((now) => {
      const next = new Set(now);
      if (!next.delete(number)) next.add(number);
      return next;
    });
  }, []);

  const lastOffset = useRef(0);
  const onScroll = () => {
    const element = scroller.current;
    if (element === null) return;
    const offset = element.scrollTop;
    anchor.current = lines[virtual.getVirtualItemForOffset(offset)?.index ?? 0]?.number ?? null;
    const atEnd = element.scrollHeight - element.clientHeight - offset < END_PX;
    const upwards = offset < lastOffset.current;
    lastOffset.current = offset;
    if (atEnd && !follow && !upwards) onFollow(true);
    else if (!atEnd && follow && upwards) onFollow(false);
  };

  const onKey = (event: KeyboardEvent) => {
    if (event.target !== event.currentTarget || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 0) / LINE_PX) - 2);
    const from = found < 0 && follow ? lines.length : found;
    const target = keyTarget(event.key, from, lines.length, page);
    if (target !== null) {
      const line = lines[target];
      if (line === undefined) return;
      setActive(line.number);
      onFollow(event.key === "End");
      virtual.scrollToIndex(target, { align: "auto" });
    } else if ((event.key === "Enter" || event.key === " ") && active !== null && found >= 0) toggle(active);
    else return;
    event.preventDefault();
  };

  // A tree without a row would be none.
  if (lines.length === 0) return props.empty;
  return (
    <div className="relative flex min-h-0 flex-1 flex-col">
      <div
        ref={scroller}
        role="treegrid"
        aria-label={label}
        aria-rowcount={lines.length}
        aria-activedescendant={found < 0 ? undefined : `${id}-${found}`}
        tabIndex={0}
        className="min-h-0 flex-1 overflow-auto bg-surface font-mono text-xs focus-visible:-outline-offset-2"
        onScroll={onScroll}
        onWheel={(event) => {
          if (event.deltaY < 0 && follow) onFollow(false);
        }}
        onKeyDown={onKey}
      >
        <div className="relative" style={{ height: virtual.getTotalSize() }}>
          {items.map((item) => {
            const line = lines[item.index];
            if (line === undefined) return null;
            return (
              <div
                key={line.number}
                ref={virtual.measureElement}
                data-index={item.index}
                className="absolute inset-x-0"
                style={{ transform: `translateY(${item.start}px)` }}
              >
                {holes.has(line.number) ? <Hole /> : null}
                <Line
                  id={`${id}-${item.index}`}
                  index={item.index}
                  line={line}
                  search={search}
                  open={opened.has(line.number)}
                  active={item.index === found}
                  onToggle={toggle}
                />
              </div>
            );
          })}
        </div>
      </div>
      {follow ? null : <NewLines key={String(follow)} last={last ?? 0} lines={lines} onFollow={() => onFollow(true)} />}
    </div>
  );
}

function Hole() {
  return (
    <p className="flex items-center gap-2 bg-warn-soft px-3.5 font-sans text-xs text-warn">
      <Icon name="warning" size={12} />
      Lines are missing here: they came faster than the API keeps them for this page.
    </p>
  );
}

/** How many lines have come since following ended, and the way back. */
function NewLines({ last, lines, onFollow }: { last: number; lines: readonly LogLine[]; onFollow: () => void }) {
  const [since] = useState(last);
  let count = 0;
  for (let at = lines.length - 1; at >= 0 && (lines[at]?.number ?? 0) > since; at -= 1) count += 1;
  return (
    <div className="absolute right-4 bottom-3 rounded-md shadow-float">
      <Button icon="arrow-down" weight="primary" onClick={onFollow}>
        {count === 0 ? "Follow" : `${formatPlural(count, "new line")}: follow`}
      </Button>
    </div>
  );
}

interface LineProps {
  id: string;
  index: number;
  line: LogLine;
  search: string;
  open: boolean;
  active: boolean;
  onToggle: (number: number) => void;
}

const Line = memo(function Line({ id, index, line, search, open, active, onToggle }: LineProps) {
  const look = LEVEL_LOOKS[line.level];
  const fields = fieldsText(line.fields);
  const ground = line.level === "error" ? "bg-danger-soft/40" : line.level === "warning" ? "bg-warn-soft/40" : "";
  return (
    // biome-ignore lint/a11y/useSemanticElements: a virtual list of rows cannot be a <table>
    // biome-ignore lint/a11y/useFocusableInteractive: the grid has the focus, and points to its row
    // biome-ignore lint/a11y/useKeyWithClickEvents: the grid answers Enter
    <div
      id={id}
      role="row"
      aria-rowindex={index + 1}
      aria-expanded={open}
      className={`grid cursor-pointer grid-cols-[6.5rem_4.2rem_8rem_minmax(0,1fr)] max-md:grid-cols-[6.5rem_4.2rem_minmax(0,1fr)] max-md:[&>:last-child]:col-span-full gap-x-3 border-b border-line/60 px-3.5 py-px leading-5 hover:bg-hover ${ground} ${
        active ? "outline-2 -outline-offset-2 outline-accent" : ""
      }`}
      onClick={() => {
        // Whoever marks text to copy it has not asked for more.
        if (getSelection()?.isCollapsed !== false) onToggle(line.number);
      }}
    >
      <Cell className="text-ink-3">
        <time dateTime={new Date(line.timestamp).toISOString()} title={formatMoment(line.timestamp)}>
          {formatClock(line.timestamp, true)}
        </time>
      </Cell>
      <Cell className={`flex items-center gap-1 ${TEXT[look.tone]}`}>
        <Icon name={look.icon} size={12} />
        {look.word}
      </Cell>
      <Cell className="truncate text-ink-2">
        <span title={line.source}>{line.source}</span>
      </Cell>
      <Cell className={open ? "break-words whitespace-pre-wrap text-ink" : "truncate text-ink"}>
        <Message text={open ? line.message : line.message.replaceAll("\n", " ⏎ ")} search={search} />
        {fields === "" || open ? null : <span className="ml-3 text-ink-3">{fields}</span>}
        {open && fields !== "" ? <Fields fields={line.fields} /> : null}
      </Cell>
    </div>
  );
});

function Cell({ className, children }: { className: string; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/useSemanticElements: a virtual list of rows cannot be a <table>
    // biome-ignore lint/a11y/useFocusableInteractive: the grid has the focus
    <div role="gridcell" className={`min-w-0 ${className}`}>
      {children}
    </div>
  );
}

function Message({ text, search }: { text: string; search: string }) {
  return highlight(text, search).map((piece, place) =>
    piece.hit ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: pieces of one text
      <mark key={place} className="rounded-xs bg-warn-soft text-warn ring-1 ring-warn">
        {piece.text}
      </mark>
    ) : (
      piece.text
    ),
  );
}

function Fields({ fields }: { fields: LogLine["fields"] }) {
  return (
    <dl className="my-1 grid grid-cols-[max-content_minmax(0,1fr)] gap-x-4 border-l-2 border-line pl-3">
      {Object.entries(fields).map(([name, value]) => (
        <div key={name} className="contents">
          <dt className="text-ink-3">{name}</dt>
          <dd>{typeof value === "string" ? value : JSON.stringify(value)}</dd>
        </div>
      ))}
    </dl>
  );
}
