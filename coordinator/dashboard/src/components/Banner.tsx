// A message across the page: what has happened, since when, and what to do.
import type { ReactNode } from "react";
import { Icon } from "./Icon";
import { SOFT, TONE_ICON } from "./tone";

interface BannerProps {
  tone: "info" | "warn" | "danger" | "ok";
  children: ReactNode;
  /** A button or a link at the end. */
  action?: ReactNode;
  /** Read aloud when it appears; off for banners that are there from the start. */
  announce?: boolean;
}

export function Banner({ tone, children, action, announce = true }: BannerProps) {
  const live = announce ? { role: tone === "danger" ? "alert" : "status" } : {};
  return (
    <div {...live} className={`flex items-center gap-2.5 rounded-md px-3 py-2 text-sm ${SOFT[tone]}`}>
      <Icon name={TONE_ICON[tone]} />
      <div className="min-w-0 flex-1">{children}</div>
      {action}
    </div>
  );
}
