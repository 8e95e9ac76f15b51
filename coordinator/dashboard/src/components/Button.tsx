// The buttons of the page: one size, three weights, and a square one for an icon that has its word in a label.
import type { ButtonHTMLAttributes, ReactNode } from "react";
import { Icon, type IconName } from "./Icon";

interface ButtonProps extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "className"> {
  icon?: IconName;
  weight?: "primary" | "plain" | "quiet" | "danger";
  children: ReactNode;
}

const WEIGHTS = {
  primary: "bg-accent text-accent-ink border-transparent hover:brightness-110",
  plain: "bg-surface text-ink-2 border-line hover:bg-hover hover:text-ink",
  quiet: "bg-transparent text-ink-2 border-transparent hover:bg-hover hover:text-ink",
  danger: "bg-danger-soft text-danger border-transparent hover:brightness-95 dark:hover:brightness-125",
} as const;

const SHARED =
  "inline-flex h-7 shrink-0 items-center justify-center gap-1.5 rounded-md border text-xs font-medium whitespace-nowrap transition-colors disabled:cursor-not-allowed disabled:opacity-50 aria-pressed:border-accent aria-pressed:text-accent";

export function Button({ icon, weight = "plain", children, ...rest }: ButtonProps) {
  return (
    <button type="button" {...rest} className={`${SHARED} px-2.5 ${WEIGHTS[weight]}`}>
      {icon === undefined ? null : <Icon name={icon} size={14} />}
      {children}
    </button>
  );
}

interface IconButtonProps extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "className" | "children"> {
  icon: IconName;
  label: string;
  weight?: keyof typeof WEIGHTS;
}

export function IconButton({ icon, label, weight = "quiet", ...rest }: IconButtonProps) {
  return (
    <button type="button" aria-label={label} title={label} {...rest} className={`${SHARED} w-7 ${WEIGHTS[weight]}`}>
      <Icon name={icon} size={15} />
    </button>
  );
}
