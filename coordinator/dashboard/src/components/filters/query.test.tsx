import { act, renderHook } from "@testing-library/react";
import { beforeEach, describe, expect, it } from "vitest";
import { idInPath, setQuery, useOpenRow, useQueryChoice, useQueryNumber, useQueryParam } from "./query";

beforeEach(() => history.replaceState(null, "", "/checkpoints?q=old&by=bytes"));

describe("a filter in the address", () => {
  it("is read, written, and gone when it is empty; the others stay", () => {
    const { result } = renderHook(() => useQueryParam("q"));
    expect(result.current[0]).toBe("old");
    act(() => result.current[1]("step 7&x"));
    expect(result.current[0]).toBe("step 7&x");
    expect(location.search).toBe("?q=step+7%26x&by=bytes");
    act(() => result.current[1](""));
    expect(location.search).toBe("?by=bytes");
  });

  it("leaves no entry in the history of the browser", () => {
    const entries = history.length;
    setQuery({ q: "a" });
    setQuery({ q: "ab" });
    expect(history.length).toBe(entries);
  });

  it("is the first choice where the address has a word that is none", () => {
    setQuery({ by: "nonsense" });
    const { result } = renderHook(() => useQueryChoice("by", ["time", "bytes"]));
    expect(result.current[0]).toBe("time");
    act(() => result.current[1]("bytes"));
    expect(result.current[0]).toBe("bytes");
    act(() => result.current[1]("time"));
    expect(location.search).toBe("?q=old");
  });

  it.each([
    ["1763822531000", 1763822531000],
    ["", null],
    ["-3", null],
    ["1e3", null],
    ["abc", null],
  ])("as a number: %s is %s", (text, value) => {
    setQuery({ at: text });
    expect(renderHook(() => useQueryNumber("at")).result.current[0]).toBe(value);
  });
});

describe("the open row in the path", () => {
  it("survives every sign that an id can have", () => {
    const { result } = renderHook(() => useOpenRow("/checkpoints"));
    expect(result.current[0]).toBeNull();
    for (const id of ["step-7", "a/b c", "100%", "ä?x=1#y", "%2F"]) {
      act(() => result.current[1](id));
      expect(result.current[0]).toBe(id);
      expect(location.search).toBe("?q=old&by=bytes");
    }
    act(() => result.current[1](null));
    expect(location.pathname).toBe("/checkpoints");
  });

  it("is nothing for another view, and harmless where the escape is broken", () => {
    expect(idInPath("/data", "/database/x")).toBeNull();
    expect(idInPath("/data", "/data/")).toBeNull();
    expect(idInPath("/data", "/data/%E0%A4%A")).toBe("%E0%A4%A");
  });
});
