// All deliveries of a practice, as of the last change.
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { Delivery, NotifyService } from "../gen/heedwell/v1/notify_service_pb.js";
import { Pauses, isPassing, sleep } from "./client.js";

/** A stream says at least every so many seconds that it is alive. One that misses three is dead, whatever TCP thinks of it. */
const HEARTBEAT_SECONDS = 5;

export interface Listener {
  changed(delivery: Delivery): void;
  /** What happened in between is unknown. */
  gap(): void;
  /** Not connected; the next try comes by itself. */
  waiting(error: ConnectError): void;
}

export class Deliveries {
  #revisions = new Map<string, bigint>();

  constructor(
    readonly notify: Client<typeof NotifyService>,
    readonly practiceId: string,
    readonly listener: Listener,
  ) {}

  /** Keeps up, across the end of every stream, until `enough`. */
  async follow(enough: AbortSignal): Promise<void> {
    let cursor = "";
    let pauses = new Pauses();
    while (!enough.aborted) {
      try {
        cursor ||= await this.#list(enough);
        for await (cursor of this.#watch(cursor, enough)) pauses = new Pauses();
        // Ended as planned. A server that stops ends all its streams, so not everybody comes back at once.
        await sleep(Math.random() * 1_000);
      } catch (cause) {
        if (enough.aborted) return;
        const error = ConnectError.from(cause);
        if (error.code === Code.OutOfRange) {
          // The changes after the cursor are gone: it is a week old, or the database came back from a backup.
          this.listener.gap();
          cursor = "";
        } else if (isPassing(error)) {
          this.listener.waiting(error);
          await pauses.wait(error);
        } else {
          throw error;
        }
      }
    }
  }

  /** Takes everything in, and returns where to watch from: a cursor from before the first page was read. */
  async #list(signal: AbortSignal): Promise<string> {
    let [cursor, pageToken] = ["", ""];
    do {
      const page = await this.notify.listDeliveries({ practiceId: this.practiceId, pageSize: 500, pageToken }, { signal });
      cursor ||= page.watchCursor;
      page.deliveries.forEach((delivery) => this.#apply(delivery));
      // A page may be short and still not be the last.
      pageToken = page.nextPageToken;
    } while (pageToken);
    return cursor;
  }

  /** One stream; yields where to go on from. */
  async *#watch(cursor: string, enough: AbortSignal): AsyncIterable<string> {
    const dead = new AbortController();
    const rearm = () => setTimeout(() => dead.abort(new ConnectError("no heartbeat", Code.Unavailable)), 3_000 * HEARTBEAT_SECONDS);
    let watchdog = rearm();
    try {
      const request = {
        practiceId: this.practiceId,
        start: { case: "cursor" as const, value: cursor },
        heartbeatInterval: { seconds: BigInt(HEARTBEAT_SECONDS) },
      };
      // A deadline would end the stream, and with it a watch that is well.
      const options = { signal: AbortSignal.any([enough, dead.signal]), timeoutMs: 0 };
      for await (const step of this.notify.watchDeliveries(request, options)) {
        clearTimeout(watchdog);
        watchdog = rearm();
        for (const { delivery } of step.changes) if (delivery) this.#apply(delivery);
        // Not before its changes are applied, else a crash in between loses them. Kept on disk, both go there together.
        yield step.cursor;
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  #apply(delivery: Delivery): void {
    // Lists and watches overlap, and a watch may repeat itself.
    if (delivery.revision <= (this.#revisions.get(delivery.deliveryId) ?? 0n)) return;
    this.#revisions.set(delivery.deliveryId, delivery.revision);
    this.listener.changed(delivery);
  }
}
