// How fresh is what is shown.
import { useContext, useEffect, useReducer } from "preact/hooks";
import { type Status, useStream } from "./stream.js";
import { Zone, clock } from "./time.js";

export function Badge() {
  const stream = useStream();
  const zone = useContext(Zone);
  const [, draw] = useReducer((count: number) => count + 1, 0);
  const { status } = stream;
  useEffect(() => {
    if (status.kind !== "waiting") return;
    const timer = setInterval(() => draw(undefined as never), 500);
    return () => clearInterval(timer);
  }, [status]);
  const [look, text] = words(status, stream.isStale, clock(new Date(stream.seen), zone));
  if (status.kind === "idle") return <div class="live" />;
  return (
    <div class="live">
      <span class={`badge ${look}`}>{text}</span>
      {status.kind === "waiting" && (
        <button class="quiet" onClick={() => stream.retry()}>
          Try now
        </button>
      )}
      {(status.kind === "live" || status.kind === "paused") && (
        <button class="quiet" aria-pressed={stream.paused} title="Pause (p)" onClick={() => stream.toggle()}>
          {stream.paused ? "Go on" : "Pause"}
        </button>
      )}
    </div>
  );
}

function words(status: Status, isOld: boolean, seen: string): [look: string, text: string] {
  switch (status.kind) {
    case "live":
      return ["good", "Live"];
    case "paused":
      return ["", "Paused"];
    case "stopped":
      return ["bad", "Not connected"];
    case "waiting": {
      const seconds = Math.max(0, Math.ceil((status.until - Date.now()) / 1_000));
      return isOld ? ["bad", `Stale since ${seen}`] : ["warn", `Reconnecting (in ${seconds} s)`];
    }
    default:
      return ["", "Connecting"];
  }
}
