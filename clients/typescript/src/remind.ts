// Reminds patients of their visits, and tells what becomes of each reminder. ../README.md says what goes in and out.
//
//   npm ci && npm run build && node dist/src/remind.js
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Delivery, NotifyService } from "../gen/heedwell/v1/notify_service_pb.js";
import { DeliveryState } from "../gen/heedwell/v1/types_pb.js";
import { DEADLINE_MS, Pauses, bearer, isPassing, reason, retries, violations } from "./client.js";
import { Deliveries } from "./deliveries.js";

const { HEEDWELL_ADDR = "127.0.0.1:50051", HEEDWELL_PRACTICE: practiceId = "", HEEDWELL_TOKEN_FILE = "" } = process.env;

/** So many visits are sent side by side: one that has to wait holds up no other. */
const SIDE_BY_SIDE = 16;

interface Visit {
  appointment: string;
  patient: string;
  start: string;
  send?: string;
}

const say = (event: object) => console.log(JSON.stringify(event));
/** As the gRPC specification writes them: DEADLINE_EXCEEDED. */
const codeName = ({ code }: ConnectError) => (Code[code] ?? "").replace(/(?<=.)[A-Z]/g, "_$&").toUpperCase();

/** A time with its zone: without, it would be another one on each machine. */
function when(text: string) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime()) || !/T.*(Z|[+-]\d\d:\d\d)$/i.test(text)) throw new Error(`${text} is no time with its zone`);
  return timestampFromDate(date);
}

/** What is asked of the server for one line. */
function reminder(line: string) {
  const { appointment, patient, start, send }: Visit = JSON.parse(line);
  if (typeof appointment !== "string" || typeof patient !== "string") throw new Error("an appointment and a patient are needed");
  const startTime = when(start);
  return {
    practiceId,
    // Says what it is about, and is not random: whoever runs this once more, after a crash too, sends nothing twice. A visit
    // that was moved is another one.
    requestId: `reminder:${appointment}:${startTime.seconds}`,
    notification: {
      patientId: patient,
      payload: { case: "appointmentReminder" as const, value: { startTime } },
      scheduleTime: send === undefined ? undefined : when(send),
      reference: appointment,
    },
  };
}

/** Sends one reminder, however long the server may be away. */
async function remind(number: number, line: string): Promise<void> {
  let request;
  try {
    request = reminder(line);
  } catch (cause) {
    // One bad line is no reason to leave the others.
    return say({ refused: `line ${number}`, reason: "NOT_A_VISIT", violations: [{ field: "line", description: String(cause) }] });
  }
  const { requestId } = request;
  for (const pauses = new Pauses(); ; ) {
    try {
      const { replayed } = await notify.sendNotification(request);
      return say({ accepted: requestId, replayed });
    } catch (cause) {
      const error = ConnectError.from(cause);
      if (!isPassing(error)) return say({ refused: requestId, reason: reason(error), violations: violations(error) });
      say({ waiting: codeName(error) });
      await pauses.wait(error);
    }
  }
}

function changed({ deliveryId, revision, state }: Delivery): void {
  // A newer server may have states that this program was not built with.
  say({ delivery: deliveryId, revision: Number(revision), state: DeliveryState[state] ?? "OTHER" });
}

const transport = createGrpcTransport({
  // To another machine: https://.
  baseUrl: `http://${HEEDWELL_ADDR}`,
  defaultTimeoutMs: DEADLINE_MS,
  // The first is the outermost: each try reads the token anew.
  interceptors: [retries, bearer(async () => (await readFile(HEEDWELL_TOKEN_FILE, "utf8")).trim())],
});
const notify = createClient(NotifyService, transport);

const enough = new AbortController();
const deliveries = new Deliveries(notify, practiceId, {
  changed,
  gap: () => say({ gap: true }),
  waiting: (error) => say({ waiting: codeName(error) }),
});
const following = deliveries.follow(enough.signal);
/** Where no other try would do, there is nothing more to tell. */
const giveUp = (error: unknown) => {
  console.error(error);
  process.exit(1);
};
following.catch(giveUp);

const sending = new Set<Promise<void>>();
let number = 0;
for await (const line of createInterface({ input: process.stdin })) {
  if (sending.size >= SIDE_BY_SIDE) await Promise.race(sending);
  const sent: Promise<void> = remind(++number, line)
    .catch(giveUp)
    .finally(() => sending.delete(sent));
  sending.add(sent);
}
await Promise.all(sending);
enough.abort();
await following;
