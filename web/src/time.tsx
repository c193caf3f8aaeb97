// Times as the practice's clock shows them.
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { createContext } from "preact";
import { useContext } from "preact/hooks";

/** IANA zone of the practice. */
export const Zone = createContext<string | undefined>(undefined);

const formats = new Map<string, Intl.DateTimeFormat>();

function format(zone: string | undefined, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${zone} ${JSON.stringify(options)}`;
  let found = formats.get(key);
  if (!found) formats.set(key, (found = new Intl.DateTimeFormat("en-US", { timeZone: zone, ...options })));
  return found;
}

const DAY: Intl.DateTimeFormatOptions = { year: "numeric", month: "2-digit", day: "2-digit" };

export function clock(date: Date, zone?: string): string {
  return format(zone, { hour: "numeric", minute: "2-digit" }).format(date);
}

/** Today only the time; else the day with it. */
export function short(date: Date, zone?: string): string {
  const day = format(zone, DAY);
  const now = new Date();
  if (day.format(date) === day.format(now)) return clock(date, zone);
  // Of the practice's calendar too: on New Year's Eve the browser may be a year ahead.
  const calendar = format(zone, { year: "numeric" });
  const year = calendar.format(date) === calendar.format(now) ? undefined : "numeric";
  return format(zone, { month: "short", day: "numeric", year, hour: "numeric", minute: "2-digit" }).format(date);
}

const FULL: Intl.DateTimeFormatOptions = {
  year: "numeric",
  month: "short",
  day: "numeric",
  hour: "numeric",
  minute: "2-digit",
  second: "2-digit",
  timeZoneName: "short",
};

const long = (date: Date, zone?: string) => format(zone, { dateStyle: "full", timeStyle: "long" }).format(date);

/** A time; the whole of it with its zone is its title. `full` shows year, seconds and zone. */
export function Time({ at, full }: { at: Timestamp | undefined; full?: boolean }) {
  const zone = useContext(Zone);
  if (!at) return null;
  const date = timestampDate(at);
  const text = full ? format(zone, FULL).format(date) : short(date, zone);
  return (
    <time dateTime={date.toISOString()} title={long(date, zone)}>
      {text}
    </time>
  );
}

export function days(seconds: bigint): string {
  const count = Math.round(Number(seconds) / 86_400);
  return count === 1 ? "1 day" : `${count} days`;
}
