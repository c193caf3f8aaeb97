// The report of a broadcast as a file, made in the page from what anybody may list.
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Delivery } from "../../gen/heedwell/v1/notify_service_pb.js";
import { notify } from "../api.js";
import { reason } from "../deliveries/words.js";
import { CHANNELS, STATES, word } from "../words.js";
import { save } from "./files.js";

const HEAD = ["delivery_id", "patient_id", "channel", "status", "reason", "address", "created", "sent", "delivered"];

function row(delivery: Delivery): string[] {
  const time = (at: Delivery["createTime"]) => (at ? timestampDate(at).toISOString() : "");
  const { deliveryId, patientId, channel, state, addressHint, createTime, sendTime, deliverTime } = delivery;
  return [deliveryId, patientId, word(CHANNELS, channel), word(STATES, state), reason(delivery), addressHint, time(createTime), time(sendTime), time(deliverTime)];
}

/** RFC 4180. What begins like a formula is kept from being one in a spreadsheet. */
export function field(text: string): string {
  const tame = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(tame) ? `"${tame.replaceAll('"', '""')}"` : tame;
}

export async function download(practiceId: string, broadcastId: string): Promise<void> {
  const lines = [HEAD];
  for (let pageToken = "", first = true; first || pageToken; first = false) {
    const page = await notify.listDeliveries({ practiceId, filter: { broadcastId }, pageSize: 500, pageToken });
    lines.push(...page.deliveries.map(row));
    pageToken = page.nextPageToken;
  }
  const text = lines.map((fields) => fields.map(field).join(",")).join("\r\n");
  // The mark tells Excel that it is UTF-8.
  save(["\ufeff", text], "text/csv;charset=utf-8", `broadcast-${broadcastId}.csv`);
}
