// A worker's state as an icon, a word and a colour; what is not in the list is shown as it was sent, inert.
import { Icon, type IconName } from "./Icon";
import { SOFT, TEXT, type Tone } from "./tone";

export const WORKER_STATES = [
  "TRAINING",
  "CHECKPOINTING",
  "LOADING_DATA",
  "IDLE",
  "INITIALIZING",
  "RECOVERING",
  "FAILED",
  "UNKNOWN",
] as const;

export type WorkerState = (typeof WORKER_STATES)[number];

export interface StateLook {
  word: string;
  icon: IconName;
  tone: Tone;
  /** One sentence for a tooltip. */
  meaning: string;
}

const LOOKS: Record<WorkerState, StateLook> = {
  TRAINING: { word: "Training", icon: "zap", tone: "ok", meaning: "Runs steps." },
  CHECKPOINTING: { word: "Checkpointing", icon: "save", tone: "info", meaning: "Copies or writes a checkpoint." },
  LOADING_DATA: { word: "Loading data", icon: "download", tone: "teal", meaning: "Waits for batches." },
  IDLE: { word: "Idle", icon: "circle", tone: "neutral", meaning: "Is connected and has nothing to do." },
  INITIALIZING: { word: "Initializing", icon: "hourglass", tone: "violet", meaning: "Starts and has not trained yet." },
  RECOVERING: { word: "Recovering", icon: "refresh", tone: "warn", meaning: "Restores after a fault." },
  FAILED: { word: "Failed", icon: "x-circle", tone: "danger", meaning: "Is lost or has reported an error." },
  UNKNOWN: { word: "Unknown", icon: "question", tone: "neutral", meaning: "Has not reported a state." },
};

export function stateLook(state: string): StateLook {
  if (Object.hasOwn(LOOKS, state)) return LOOKS[state as WorkerState];
  return { word: state, icon: "question", tone: "neutral", meaning: "A state that this page does not know." };
}

interface StateBadgeProps {
  state: string;
  /** Without the soft background, for dense tables. */
  plain?: boolean;
}

export function StateBadge({ state, plain = false }: StateBadgeProps) {
  const look = stateLook(state);
  return <Badge icon={look.icon} plain={plain} title={look.meaning} tone={look.tone} word={look.word} />;
}

interface BadgeProps {
  word: string;
  icon: IconName;
  tone: Tone;
  title?: string | undefined;
  plain?: boolean;
}

/** Any other state in the same form: icon, word, colour. */
export function Badge({ word, icon, tone, title, plain = false }: BadgeProps) {
  return (
    <span
      className={`inline-flex max-w-full items-center gap-1.5 align-middle whitespace-nowrap text-xs font-medium ${
        plain ? TEXT[tone] : `rounded px-1.5 py-px ${SOFT[tone]}`
      }`}
      title={title}
    >
      <Icon name={icon} size={13} />
      <span className="truncate">{word}</span>
    </span>
  );
}
