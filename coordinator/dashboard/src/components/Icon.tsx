// The dashboard's own icons: 16 by 16, drawn with one stroke. They decorate words and never stand without one.

const PATHS = {
  overview: "M2.5 2.5h4.5v4.5H2.5zM9 2.5h4.5v4.5H9zM2.5 9h4.5v4.5H2.5zM9 9h4.5v4.5H9z",
  timeline: "M2 4h6M5 8h8M3.5 12h5M11 12h2.5M10.5 4H13",
  workers: "M2.5 2.5h11v4h-11zM2.5 9.5h11v4h-11zM5 4.5h.01M5 11.5h.01M8 4.5h3M8 11.5h3",
  data: "M8 2 14 5 8 8 2 5zM2 8l6 3 6-3M2 11l6 3 6-3",
  checkpoints: "M3.5 14V2.5M3.5 3h8l-1.8 2.8L11.5 8.500h-8",
  barriers: "M3 2.5v11M13 2.500v11M3 8h3M13 8h-3M6 8l0 0M8 5.500v5",
  functions: "M10.5 2.5c-2 0-2.3 1-2.6 2.500L6.8 11c-.3 1.5-.8 2.5-2.6 2.500M5 6.500h5.5",
  jobs: "M2.5 5h11v8.500h-11zM5.5 5V2.500h5V5M2.5 8.500h11",
  activity: "M1.5 8.500h3l2-5.5 3 10 2-4.500h3",
  logs: "M2.5 3.500h11M2.5 6.500h7M2.5 9.500h11M2.5 12.500h5",
  settings: "M2 4.500h7M12.5 4.500H14M2 11.500h1.500M7 11.500h7M9 3v3h3.500V3zM3.5 10v3H7v-3z",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.7 10.7 14 14",
  sun: "M8 10.800a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.600zM8 1.500v1.300M8 13.200v1.300M1.5 8h1.300M13.2 8h1.300M3.4 3.400l.9.9M11.7 11.700l.9.9M3.4 12.600l.9-.9M11.7 4.300l.9-.9",
  moon: "M13.5 9.500A5.8 5.8 0 0 1 6.5 2.500a5.8 5.8 0 1 0 7 7z",
  monitor: "M2 3h12v8H2zM5.5 13.500h5M8 11v2.5",
  keyboard: "M1.5 4.500h13v7.500h-13zM4 7h.01M6.7 7h.01M9.3 7h.01M12 7h.01M5 9.700h6",
  close: "M3.5 3.500l9 9M12.5 3.500l-9 9",
  "chevron-right": "M6 3.5 10.5 8 6 12.5",
  "chevron-left": "M10 3.5 5.5 8l4.5 4.5",
  "chevron-down": "M3.5 6 8 10.5 12.5 6",
  "arrow-up": "M8 13V3M4 7l4-4 4 4",
  "arrow-down": "M8 3v10M4 9l4 4 4-4",
  sort: "M5 6.5 8 3.500l3 3M5 9.500l3 3 3-3",
  pause: "M5 3.500v9M11 3.500v9",
  play: "M4.5 3v10l8-5z",
  stop: "M4 4h8v8H4z",
  live: "M3 3v10l6-5zM12.5 3v10",
  download: "M8 2.500v8M4.5 7.5 8 11l3.5-3.500M2.5 13.500h11",
  upload: "M8 11V3M4.5 6 8 2.5 11.5 6M2.5 13.500h11",
  table: "M2.5 3h11v10h-11zM2.5 6.300h11M2.5 9.700h11M7 6.300V13",
  chart: "M2.5 2.500v11h11M4.5 10.5 7.5 7l2.3 2L13.5 4.5",
  warning: "M8 2 14.5 13.500h-13zM8 6.500v3.200M8 11.600h.01",
  check: "M3 8.500l3.3 3.300L13 4.8",
  "check-circle": "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM5.3 8.200l1.9 1.9 3.5-3.9",
  info: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 7.500v3.500M8 5.200h.01",
  "x-circle": "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM6 6l4 4M10 6l-4 4",
  question:
    "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM6.3 6.300c.2-1 1-1.5 1.8-1.4 1 .1 1.6.8 1.6 1.6 0 1.2-1.6 1.3-1.7 2.500M8 11.200h.01",
  circle: "M8 13.500a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11z",
  "circle-dot": "M8 13.500a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM8 9.500a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3z",
  hourglass: "M4 2h8M4 14h8M5 2v2.500L8 8l3-3.500V2M5 14v-2.500L8 8l3 3.500V14",
  save: "M2.5 2.500h8.500l2.5 2.500v8.500h-11zM5 2.500v3.500h5V2.500M5 13.500V9.500h6v4",
  refresh: "M13.5 8a5.5 5.5 0 1 1-1.6-3.900L13.5 5.500M13.5 2v3.500H10",
  zap: "M9 1.5 3.5 9H8l-1 5.500L12.5 7H8z",
  link: "M6.5 9.5 9.5 6.500M7 4.5 8.5 3A3 3 0 0 1 13 7.500L11.5 9M9 11.5 7.5 13A3 3 0 0 1 3 8.500L4.5 7",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  copy: "M5.5 5.500h8v8h-8zM10.5 5.500v-3h-8v8h3",
  filter: "M2 3h12L9.5 8.500V13l-3-1.500v-3z",
  cpu: "M4.5 4.500h7v7h-7zM6.5 1.500v3M9.5 1.500v3M6.5 11.500v3M9.5 11.500v3M1.5 6.500h3M1.5 9.500h3M11.5 6.500h3M11.5 9.500h3",
  clock: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 4.800V8l2.3 1.5",
  shield: "M8 1.8 13 3.500v4c0 3.2-2.2 5.4-5 6.7-2.8-1.3-5-3.5-5-6.700v-4zM5.8 7.800l1.6 1.6 2.9-3.1",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16, className = "" }: { name: IconName; size?: number; className?: string }) {
  return (
    <svg
      aria-hidden="true"
      className={`shrink-0 ${className}`}
      fill="none"
      focusable="false"
      height={size}
      stroke="currentColor"
      strokeLinecap="round"
      strokeLinejoin="round"
      strokeWidth={1.5}
      viewBox="0 0 16 16"
      width={size}
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
