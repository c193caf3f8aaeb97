// What one delivery says of itself.
import type { Delivery } from "../../gen/heedwell/v1/notify_service_pb.js";
import { DeliveryState } from "../../gen/heedwell/v1/types_pb.js";
import { FAILURES, skipped, word } from "../words.js";

/** UNCONFIRMED, and nobody asks any more. */
export const isClosed = ({ state, nextActionTime }: Delivery) => state === DeliveryState.UNCONFIRMED && !nextActionTime;

/** Whether "Send again" may be offered. */
export const isRetriable = (delivery: Delivery) =>
  (delivery.state === DeliveryState.FAILED || isClosed(delivery)) && !delivery.retryDeliveryId;

/** Why it is where it is; empty where the state says all. */
export function reason(delivery: Delivery): string {
  switch (delivery.state) {
    case DeliveryState.UNCONFIRMED:
      return isClosed(delivery) ? "Nobody knows; needs a decision" : "Checking with the provider";
    case DeliveryState.FAILED:
      return delivery.failure?.message || word(FAILURES, delivery.failure?.reason ?? 0);
    case DeliveryState.SKIPPED:
      return skipped(delivery.skipReason, delivery.channel);
    default:
      return "";
  }
}
