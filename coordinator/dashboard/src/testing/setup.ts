// What jsdom lacks and the components need: sizes, a match of media queries, and a clean page after each test.
import { cleanup, configure } from "@testing-library/react";
import { afterEach, vi } from "vitest";

/** Every element is this large, so that virtual lists show rows. */
const WIDTH = 1200;
const HEIGHT = 480;

class FixedResizeObserver implements ResizeObserver {
  readonly #callback: ResizeObserverCallback;
  constructor(callback: ResizeObserverCallback) {
    this.#callback = callback;
  }
  observe(target: Element): void {
    const size = [{ inlineSize: WIDTH, blockSize: HEIGHT }];
    const entry = {
      target,
      contentRect: new DOMRect(0, 0, WIDTH, HEIGHT),
      borderBoxSize: size,
      contentBoxSize: size,
      devicePixelContentBoxSize: size,
    } as const;
    this.#callback([entry as unknown as ResizeObserverEntry], this);
  }
  unobserve(): void {}
  disconnect(): void {}
}

vi.stubGlobal("ResizeObserver", FixedResizeObserver);
vi.stubGlobal("matchMedia", (media: string) => ({
  media,
  matches: false,
  addEventListener: () => {},
  removeEventListener: () => {},
}));
for (const [name, value] of [
  ["offsetWidth", WIDTH],
  ["offsetHeight", HEIGHT],
  ["clientWidth", WIDTH],
  ["clientHeight", HEIGHT],
] as const) {
  Object.defineProperty(HTMLElement.prototype, name, { configurable: true, get: () => value });
}
/** A canvas that takes every stroke and shows none. */
const brush = new Proxy<Record<string, unknown>>(
  { measureText: () => ({ width: 0 }), createPattern: () => null },
  { get: (known, name) => known[String(name)] ?? (() => {}) },
);
HTMLCanvasElement.prototype.getContext = () => brush as never;
vi.stubGlobal("Path2D", function Path2D() {
  return brush;
});
HTMLElement.prototype.scrollTo = () => {};
HTMLElement.prototype.scrollIntoView = () => {};

/** A busy machine is no failure: what is waited for comes, or the test ends by its own limit. */
configure({ asyncUtilTimeout: 4_000 });

afterEach(() => {
  cleanup();
  localStorage.clear();
});
