// Which deliveries are shown: kept in the address, asked of the server, and applied to what the stream brings.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Delivery, DeliveryFilterSchema } from "../../gen/heedwell/v1/notify_service_pb.js";
import { CHANNELS, KINDS, STATES, choices, slug } from "../words.js";

export const PERIODS = [
  { value: "", hours: 0, text: "Any time", phrase: "" },
  { value: "24h", hours: 24, text: "Last 24 hours", phrase: " in the last 24 hours" },
  { value: "7d", hours: 7 * 24, text: "Last 7 days", phrase: " in the last 7 days" },
  { value: "30d", hours: 30 * 24, text: "Last 30 days", phrase: " in the last 30 days" },
];

export interface Filter {
  states: number[];
  channels: number[];
  kinds: number[];
  patient: string;
  reference: string;
  broadcast: string;
  period: string;
}

export const GROUPS = [
  { name: "state", field: "states", title: "Status", choices: choices(STATES) },
  { name: "channel", field: "channels", title: "Channel", choices: choices(CHANNELS) },
  // A conversation's messages have no kind, and so cannot be asked for by it.
  { name: "kind", field: "kinds", title: "Kind", choices: choices(KINDS).filter(({ value }) => value > 0) },
] as const;

export function fromParams(params: URLSearchParams): Filter {
  const filter: Filter = {
    states: [],
    channels: [],
    kinds: [],
    patient: params.get("patient") ?? "",
    reference: params.get("reference") ?? "",
    broadcast: params.get("broadcast") ?? "",
    period: PERIODS.find(({ value }) => value === params.get("period"))?.value ?? "",
  };
  for (const { name, field, choices } of GROUPS) {
    const slugs = (params.get(name) ?? "").split(",");
    filter[field] = choices.filter(({ text }) => slugs.includes(slug(text))).map(({ value }) => value);
  }
  return filter;
}

export function toParams(filter: Filter): Record<string, string> {
  const { patient, reference, broadcast, period } = filter;
  const params: Record<string, string> = { patient, reference, broadcast, period };
  for (const { name, field, choices } of GROUPS) {
    params[name] = choices.filter(({ value }) => filter[field].includes(value)).map(({ text }) => slug(text)).join(",");
  }
  return params;
}

export const isEmpty = (filter: Filter) => Object.values(toParams(filter)).every((value) => value === "");

export function asked(filter: Filter): MessageInitShape<typeof DeliveryFilterSchema> {
  const { states, channels, kinds, patient, reference, broadcast } = filter;
  return { states, channels, kinds, patientIds: patient ? [patient] : [], reference, broadcastId: broadcast };
}

const HOUR_MS = 3_600_000;

/** So many hours ago, at the beginning of that hour: counts are of whole hours, and lists are of as many as were counted. */
export const hoursAgo = (hours: number): Timestamp => timestampFromMs((Math.floor(Date.now() / HOUR_MS) - hours) * HOUR_MS);

export function since(filter: Filter): Timestamp | undefined {
  const hours = PERIODS.find(({ value }) => value === filter.period)?.hours;
  return hours ? hoursAgo(hours) : undefined;
}

/** The stream also brings what just left the filter. */
export function matches(filter: Filter, delivery: Delivery): boolean {
  const one = (values: number[], value: number) => values.length === 0 || values.includes(value);
  const same = (wanted: string, value: string) => wanted === "" || wanted === value;
  return (
    one(filter.states, delivery.state) &&
    one(filter.channels, delivery.channel) &&
    one(filter.kinds, delivery.kind) &&
    same(filter.patient, delivery.patientId) &&
    same(filter.reference, delivery.reference) &&
    same(filter.broadcast, delivery.broadcastId)
  );
}

/** What is not there, for example "No failed SMS in the last 7 days". */
export function nothing(filter: Filter): string {
  const words = (field: "states" | "channels" | "kinds") => {
    const group = GROUPS.find((each) => each.field === field);
    const texts = group?.choices.filter(({ value }) => filter[field].includes(value)).map(({ text }) => text) ?? [];
    return texts.map((text) => (text === "SMS" ? text : text.toLowerCase())).join(" or ");
  };
  const subject = words("kinds") || "deliveries";
  const parts = ["No", words("states"), words("channels"), words("channels") && !words("kinds") ? "" : subject];
  const period = PERIODS.find(({ value }) => value === filter.period)?.phrase ?? "";
  const of = filter.patient && ` of this patient`;
  const reference = filter.reference && ` with this reference`;
  return parts.filter(Boolean).join(" ") + of + reference + period;
}
