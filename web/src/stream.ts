// The one stream of this tab. Browsers open six connections to a host and each watch holds one: the view that is shown has it,
// and a tab that nobody looks at lets go of it. Where it was is a cursor, so nothing is lost in between.
import { Code, ConnectError } from "@connectrpc/connect";
import { useEffect, useReducer } from "preact/hooks";
import { HEARTBEAT_SECONDS } from "./api.js";
import { info, isPassing } from "./errors.js";
import { noted } from "./session.js";

export type Status =
  | { kind: "idle" }
  | { kind: "loading" }
  | { kind: "live" }
  | { kind: "paused" }
  /** Not connected; the next attempt comes by itself. */
  | { kind: "waiting"; until: number; error: unknown }
  /** It makes no sense to try again. */
  | { kind: "stopped"; error: unknown };

/** What is followed: a list, and what changes in it from there on. */
export interface Feed<Step extends { cursor: string }> {
  /** Loads everything; yields where to watch from. */
  list(signal: AbortSignal): Promise<string>;
  watch(cursor: string, signal: AbortSignal): AsyncIterable<Step>;
  apply(step: Step): void;
  /** What lay between two lists is unknown. */
  gap?(): void;
  /** Nothing more will happen, once a stream has ended as planned. */
  isOver?(): boolean;
}

/** After so long without a sign what is shown is old. */
const STALE_MS = 3 * HEARTBEAT_SECONDS * 1_000;
/** So long a hidden tab keeps its connection, of the six that all tabs share. */
const HIDDEN_MS = 10_000;

class Stream {
  status: Status = { kind: "idle" };
  /** When the last sign of the server came. */
  seen = Date.now();
  paused = false;
  /** It may have been opened behind another one. */
  #asleep = document.hidden;
  #call = new AbortController();
  #wake = () => {};
  #listeners = new Set<() => void>();
  #sleeper = 0;
  #ageing = 0;

  constructor() {
    const look = () => {
      clearTimeout(this.#sleeper);
      if (!document.hidden) this.#rest(false);
      else this.#sleeper = window.setTimeout(() => this.#rest(true), HIDDEN_MS);
    };
    document.addEventListener("visibilitychange", look);
    addEventListener("online", () => this.retry());
  }

  /** Follows until the returned function is called. */
  follow<Step extends { cursor: string }>(feed: Feed<Step>): () => void {
    const end = new AbortController();
    void this.#run(feed, end.signal);
    return () => {
      end.abort();
      this.#interrupt();
    };
  }

  /** Nothing is followed. */
  idle(): void {
    this.#say({ kind: "idle" });
  }

  /** What is shown is old. */
  get isStale(): boolean {
    return this.status.kind === "waiting" && Date.now() - this.seen > STALE_MS;
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  toggle(): void {
    // Nothing is followed that would say so when it goes on.
    if (this.status.kind === "idle" || this.status.kind === "stopped") return;
    this.paused = !this.paused;
    this.#interrupt();
    this.#say(this.paused ? { kind: "paused" } : { kind: "loading" });
  }

  /** Tries at once. */
  retry(): void {
    if (this.status.kind === "waiting") this.#wake();
  }

  #rest(asleep: boolean): void {
    this.#asleep = asleep;
    if (asleep) this.#interrupt();
    else this.#wake();
  }

  #interrupt(): void {
    this.#call.abort();
    this.#wake();
  }

  #say(status: Status): void {
    this.status = status;
    const tell = () => this.#listeners.forEach((listener) => listener());
    tell();
    clearTimeout(this.#ageing);
    // Told once more when it has grown old.
    if (status.kind === "waiting" && !this.isStale) this.#ageing = window.setTimeout(tell, this.seen + STALE_MS - Date.now() + 1);
  }

  async #run<Step extends { cursor: string }>(feed: Feed<Step>, end: AbortSignal): Promise<void> {
    let cursor = "";
    let failures = 0;
    this.#say(this.paused ? { kind: "paused" } : { kind: "loading" });
    while (!end.aborted) {
      if ((this.paused && cursor) || this.#asleep) {
        await this.#nap(Infinity);
        continue;
      }
      const call = (this.#call = new AbortController());
      let watchdog = 0;
      try {
        if (!cursor) {
          cursor = await feed.list(call.signal);
          this.seen = Date.now();
        }
        if (end.aborted) return;
        if (this.paused) {
          this.#say({ kind: "paused" });
          continue;
        }
        const arm = () => {
          clearTimeout(watchdog);
          watchdog = window.setTimeout(() => call.abort(), STALE_MS);
        };
        arm();
        for await (const step of feed.watch(cursor, call.signal)) {
          if (end.aborted) return;
          arm();
          this.seen = Date.now();
          failures = 0;
          feed.apply(step);
          cursor = step.cursor;
          if (this.status.kind !== "live" && !this.paused) this.#say({ kind: "live" });
        }
        if (feed.isOver?.()) return this.idle();
        // A planned end. All streams of a server end at once when it stops.
        await this.#nap(Math.random() * 1_000);
      } catch (cause) {
        if (end.aborted || this.#asleep || (this.paused && cursor)) continue;
        const error = ConnectError.from(noted(cause));
        if (info(error).reason === "CURSOR_EXPIRED" || error.code === Code.OutOfRange) {
          cursor = "";
          feed.gap?.();
        } else if (isPassing(error.code)) {
          const wait = 1_000 + Math.random() * Math.min(29_000, 1_000 * 2 ** failures++);
          this.#say({ kind: "waiting", until: Date.now() + wait, error });
          await this.#nap(wait);
        } else {
          this.#say({ kind: "stopped", error });
          return;
        }
      } finally {
        clearTimeout(watchdog);
      }
    }
  }

  /** Sleeps until it is woken, or so long. */
  async #nap(ms: number): Promise<void> {
    let timer = 0;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (ms !== Infinity) timer = window.setTimeout(resolve, ms);
    });
    clearTimeout(timer);
  }
}

export const stream = new Stream();

/** The stream; whoever uses it is drawn anew when its status changes. */
export function useStream(): Stream {
  const [, draw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => stream.subscribe(() => draw(undefined as never)), []);
  return stream;
}
