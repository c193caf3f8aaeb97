// Reminds patients of their visits, and tells what becomes of each reminder. ../README.md says what goes in and out.
//
//   npm ci && npm run build && node dist/src/remind.js
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Delivery, NotifyService } from "../gen/heedwell/v1/notify_service_pb.js";
import { DeliveryState } from "../gen/heedwell/v1/types_pb.js";
import { DEADLINE_MS, bearer, isPassing, pause, reason, retries } from "./client.js";
import { Deliveries } from "./deliveries.js";

const { HEEDWELL_ADDR = "127.0.0.1:50051", HEEDWELL_PRACTICE: practiceId = "", HEEDWELL_TOKEN_FILE = "" } = process.env;

interface Visit {
  appointment: string;
  patient: string;
  start: string;
  send?: string;
}

const say = (event: object) => console.log(JSON.stringify(event));
/** As the gRPC specification writes them: DEADLINE_EXCEEDED. */
const codeName = ({ code }: ConnectError) => (Code[code] ?? "").replace(/(?<=.)[A-Z]/g, "_$&").toUpperCase();

/** Sends one reminder, however long the server may be away. */
async function remind(notify: Client<typeof NotifyService>, visit: Visit): Promise<void> {
  // Says what it is about, and is not random: whoever runs this once more, after a crash too, sends nothing twice.
  const requestId = `reminder:${visit.appointment}`;
  const notification = {
    patientId: visit.patient,
    payload: { case: "appointmentReminder" as const, value: { startTime: timestampFromDate(new Date(visit.start)) } },
    scheduleTime: visit.send ? timestampFromDate(new Date(visit.send)) : undefined,
    reference: visit.appointment,
  };
  for (let failures = 0; ; failures++) {
    try {
      const { replayed } = await notify.sendNotification({ practiceId, requestId, notification });
      return say({ accepted: requestId, replayed });
    } catch (cause) {
      const error = ConnectError.from(cause);
      if (!isPassing(error)) return say({ refused: requestId, reason: reason(error) });
      say({ waiting: codeName(error) });
      await pause(error, failures);
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
// Where no other try would do, there is nothing more to tell.
following.catch((error) => {
  console.error(error);
  process.exit(1);
});
for await (const line of createInterface({ input: process.stdin })) await remind(notify, JSON.parse(line));
enough.abort();
await following;
