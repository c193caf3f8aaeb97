// The rows of the table. What the stream brings changes a row where it stands; what is new, and what no longer belongs there,
// waits while somebody is reading: rows never move under a pointer or a focus.
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Delivery, ListDeliveriesResponse, WatchDeliveriesResponse } from "../../gen/heedwell/v1/notify_service_pb.js";
import { tally } from "../announce.js";
import { notify, HEARTBEAT_SECONDS, watching } from "../api.js";
import type { Feed } from "../stream.js";
import { STATES, word } from "../words.js";
import { type Filter, asked, matches, since } from "./filter.js";

const PAGE = 100;
/** More rows than anybody reads; beyond them the oldest are let go of, and can be loaded again. */
const MOST = 500;
const DRAW_MS = 250;
const MARK_MS = 2_000;

/** Told whenever the stream says that deliveries of the practice have changed. */
export const changes = new EventTarget();

export class Rows implements Feed<WatchDeliveriesResponse> {
  /** Newest first. */
  shown: Delivery[] = [];
  loaded = false;
  /** There are older ones. */
  more = false;
  /** It was listed anew after a gap. */
  caughtUp = false;
  /** Changed just now. */
  readonly marked = new Set<string>();
  #all = new Map<string, Delivery>();
  #held = false;
  #timer = 0;
  #token = "";
  #before: Date | undefined;

  constructor(
    readonly practiceId: string,
    readonly filter: Filter,
    readonly draw: () => void,
  ) {}

  /** How many new ones wait. */
  get waiting(): number {
    return this.#news().length;
  }

  /** While held nothing moves. */
  hold(held: boolean): void {
    if (this.#held === held) return;
    this.#held = held;
    if (!held) this.settle();
  }

  async list(signal: AbortSignal): Promise<string> {
    const page = await this.#page("", undefined, signal);
    this.#all = new Map(page.deliveries.map((delivery) => [delivery.deliveryId, delivery]));
    this.shown = page.deliveries;
    this.#before = undefined;
    this.#turn(page);
    this.loaded = true;
    this.draw();
    return page.watchCursor;
  }

  watch(cursor: string, signal: AbortSignal): AsyncIterable<WatchDeliveriesResponse> {
    const heartbeatInterval = { seconds: BigInt(HEARTBEAT_SECONDS), nanos: 0 };
    const start = { case: "cursor", value: cursor } as const;
    const request = { practiceId: this.practiceId, filter: asked(this.filter), start, heartbeatInterval };
    return notify.watchDeliveries(request, watching(signal));
  }

  apply(step: WatchDeliveriesResponse): void {
    if (step.changes.length > 0) changes.dispatchEvent(new Event("change"));
    for (const { delivery, previousState } of step.changes) {
      if (!delivery) continue;
      const id = delivery.deliveryId;
      const before = this.#all.get(id);
      if (before && before.revision >= delivery.revision) continue;
      // An older one that was not loaded stays so, unless it has just come to match.
      if (!before && previousState !== 0 && !this.#belongs(delivery)) continue;
      this.#all.set(id, delivery);
      if (before) this.#mark(id);
      if (delivery.state !== previousState) tally(word(STATES, delivery.state).toLowerCase());
    }
    this.#later();
  }

  gap(): void {
    this.caughtUp = true;
    changes.dispatchEvent(new Event("change"));
  }

  async older(): Promise<void> {
    const page = await this.#page(this.#token, this.#before, undefined);
    for (const delivery of page.deliveries) if (!this.#all.has(delivery.deliveryId)) this.#all.set(delivery.deliveryId, delivery);
    const known = new Set(this.shown.map(({ deliveryId }) => deliveryId));
    this.shown = [...this.shown, ...page.deliveries.filter(({ deliveryId }) => !known.has(deliveryId))];
    this.#turn(page);
    this.draw();
  }

  /** Takes in what waited. */
  settle(): void {
    const kept = this.shown.filter(({ deliveryId }) => this.#matches(deliveryId));
    const rows = [...this.#news(), ...kept].sort((left, right) => time(right) - time(left));
    if (rows.length > MOST + PAGE) this.#shorten(rows);
    this.shown = rows;
    const ids = new Set(rows.map(({ deliveryId }) => deliveryId));
    for (const id of this.#all.keys()) if (!ids.has(id)) this.#all.delete(id);
    this.#refresh();
  }

  #shorten(rows: Delivery[]): void {
    rows.length = MOST;
    const last = rows.at(-1);
    // Just after the last one that stays, since others may be as old as it is.
    this.#before = last && new Date(time(last) + 1);
    this.#token = "";
    this.more = true;
  }

  async #page(pageToken: string, before: Date | undefined, signal: AbortSignal | undefined): Promise<ListDeliveriesResponse> {
    const endTime = before && { seconds: BigInt(Math.floor(before.getTime() / 1_000)), nanos: (before.getTime() % 1_000) * 1_000_000 };
    this.#since = pageToken || before ? this.#since : since(this.filter);
    const request = { practiceId: this.practiceId, filter: asked(this.filter), startTime: this.#since, endTime, pageSize: PAGE, pageToken };
    return notify.listDeliveries(request, { signal });
  }

  /** The same on each page, or its token would not hold. */
  #since: Timestamp | undefined;

  #turn(page: ListDeliveriesResponse): void {
    this.#token = page.nextPageToken;
    this.more = page.nextPageToken !== "";
  }

  #matches(id: string): boolean {
    const delivery = this.#all.get(id);
    return delivery !== undefined && matches(this.filter, delivery);
  }

  /** Whether one that is not loaded has its place among those that are. */
  #belongs(delivery: Delivery): boolean {
    const last = this.shown.at(-1);
    return matches(this.filter, delivery) && (!this.more || (last !== undefined && time(delivery) >= time(last)));
  }

  #news(): Delivery[] {
    const known = new Set(this.shown.map(({ deliveryId }) => deliveryId));
    return [...this.#all.values()].filter((delivery) => !known.has(delivery.deliveryId) && matches(this.filter, delivery));
  }

  #mark(id: string): void {
    this.marked.add(id);
    setTimeout(() => {
      this.marked.delete(id);
      this.#later();
    }, MARK_MS);
  }

  #later(): void {
    this.#timer ||= window.setTimeout(() => {
      this.#timer = 0;
      if (this.#held) this.#refresh();
      else this.settle();
    }, DRAW_MS);
  }

  /** Each row as it is now, where it stands. */
  #refresh(): void {
    this.shown = this.shown.map((row) => this.#all.get(row.deliveryId) ?? row);
    this.draw();
  }
}

const time = ({ createTime }: Delivery) => (createTime ? timestampMs(createTime) : 0);
