// What a clock on the wall of the practice shows, as an instant and back. A form has no zone of its own.

const shown = (at: number, zone: string) =>
  // The Swedish write times as ISO does.
  Date.parse(`${new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "medium" }).format(at).replace(" ", "T")}Z`);

/** When a clock in the zone shows the value of a `datetime-local` field. */
export function instant(value: string, zone: string): Date {
  const wanted = Date.parse(`${value}Z`);
  let at = wanted;
  // Twice: the first guess may lie on the other side of a change of the clocks.
  for (let turn = 0; turn < 2; turn++) at += wanted - shown(at, zone);
  return new Date(at);
}

/** A day and a time that nobody takes for those of another zone. */
export const spelt = (at: Date, zone: string) =>
  new Intl.DateTimeFormat("en-US", { timeZone: zone, weekday: "long", year: "numeric", month: "long", day: "numeric", hour: "numeric", minute: "2-digit", timeZoneName: "short" }).format(at);
