// The one region that screen readers listen to: summaries, at most every ten seconds, and what somebody waits for at once.
import { useEffect, useState } from "preact/hooks";

const QUIET_MS = 10_000;

let show: (text: string) => void = () => {};
let last = 0;
let timer = 0;
let counts = new Map<string, number>();

/** Says it at once: the answer to what somebody just did. */
export function announce(text: string): void {
  last = Date.now();
  show(text);
}

/** Counts it, to be told with others of its kind. */
export function tally(what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1);
  if (timer) return;
  timer = window.setTimeout(() => {
    timer = 0;
    announce([...counts].map(([each, count]) => `${count} ${each}`).join(", "));
    counts = new Map();
  }, Math.max(1_000, last + QUIET_MS - Date.now()));
}

export function Announcer() {
  const [text, set] = useState("");
  useEffect(() => {
    show = set;
  }, []);
  return (
    <p class="unseen" role="status">
      {text}
    </p>
  );
}
