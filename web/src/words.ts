// What the numbers of the contract are called. Enums are open: a number that is not known here is shown as "other".
import { ConsentState } from "../gen/heedwell/v1/preferences_service_pb.js";
import { type Actor, ActorType, Channel, ConsentSource, DeliveryState, FailureReason, NotificationKind, SkipReason } from "../gen/heedwell/v1/types_pb.js";

type Words = Readonly<Record<number, string>>;

export const CHANNELS: Words = {
  [Channel.IN_APP]: "In-app",
  [Channel.EMAIL]: "Email",
  [Channel.SMS]: "SMS",
  [Channel.PUSH]: "Push",
};

export const STATES: Words = {
  [DeliveryState.PENDING]: "Pending",
  [DeliveryState.UNCONFIRMED]: "Unconfirmed",
  [DeliveryState.SENT]: "Sent",
  [DeliveryState.DELIVERED]: "Delivered",
  [DeliveryState.FAILED]: "Failed",
  [DeliveryState.SKIPPED]: "Skipped",
  [DeliveryState.CANCELLED]: "Cancelled",
};

export const KINDS: Words = {
  [NotificationKind.UNSPECIFIED]: "Conversation",
  [NotificationKind.APPOINTMENT_REMINDER]: "Appointment reminder",
  [NotificationKind.APPOINTMENT_CONFIRMED]: "Appointment confirmed",
  [NotificationKind.APPOINTMENT_CANCELLED]: "Appointment cancelled",
  [NotificationKind.PAYMENT_DUE]: "Payment due",
  [NotificationKind.PAYMENT_RECEIVED]: "Payment received",
  [NotificationKind.PAYMENT_FAILED]: "Payment failed",
  [NotificationKind.MESSAGE_RECEIVED]: "Message received",
  [NotificationKind.DOCUMENT_SHARED]: "Document shared",
  [NotificationKind.SYSTEM]: "Account notice",
  [NotificationKind.ANNOUNCEMENT]: "Announcement",
  [NotificationKind.CUSTOM]: "Custom",
};

/** What a delivery says that was skipped, or a rule that refused; `channel` as it is called in a sentence. */
export function skipped(reason: SkipReason, channel: Channel): string {
  const over = CHANNELS[channel] ?? "this channel";
  const words: Words = {
    [SkipReason.PATIENT_INACTIVE]: "The patient is inactive",
    [SkipReason.CHANNEL_OFF_FOR_KIND]: `The practice has ${over} off for this kind`,
    [SkipReason.NOT_PREFERRED]: `The patient did not choose ${over} for this kind`,
    [SkipReason.OPTED_OUT]: `Opted out of ${over}`,
    [SkipReason.NO_CONSENT]: `No opt-in to ${over} on record`,
    [SkipReason.NO_ADDRESS]: NO_ADDRESS[channel] ?? "No address",
    [SkipReason.ADDRESS_NOT_ALLOWED]: "The number is outside the regions that may be texted",
    [SkipReason.ADDRESS_SUPPRESSED]: "The address failed for good before",
    [SkipReason.DUPLICATE_ADDRESS]: "Another recipient of the broadcast has this address",
    [SkipReason.CHANNEL_NOT_CONFIGURED]: `${over} is not set up`,
    [SkipReason.EXPIRED]: "It was too late to send",
  };
  return words[reason] ?? "Other reason";
}

const NO_ADDRESS: Words = {
  [Channel.IN_APP]: "No portal account",
  [Channel.EMAIL]: "No email address",
  [Channel.SMS]: "No mobile number",
  [Channel.PUSH]: "No device registered",
};

/** The rules of the decision, as what they ask. */
export const RULES: Words = {
  [SkipReason.PATIENT_INACTIVE]: "Patient is active",
  [SkipReason.CHANNEL_OFF_FOR_KIND]: "Channel is on for this kind",
  [SkipReason.NOT_PREFERRED]: "Patient wants this channel",
  [SkipReason.OPTED_OUT]: "Not opted out",
  [SkipReason.NO_CONSENT]: "Opt-in, where one is needed",
  [SkipReason.NO_ADDRESS]: "There is an address",
  [SkipReason.ADDRESS_NOT_ALLOWED]: "Number may be texted",
  [SkipReason.ADDRESS_SUPPRESSED]: "Address works",
  [SkipReason.DUPLICATE_ADDRESS]: "Not the address of another recipient",
  [SkipReason.CHANNEL_NOT_CONFIGURED]: "Channel is set up",
  [SkipReason.EXPIRED]: "In time",
};

export const FAILURES: Words = {
  [FailureReason.INVALID_ADDRESS]: "Number or mailbox does not exist",
  [FailureReason.UNREACHABLE]: "Could not be reached",
  [FailureReason.BLOCKED]: "Blocked by the carrier or mail host",
  [FailureReason.OPTED_OUT_AT_PROVIDER]: "Opted out at the provider",
  [FailureReason.PROVIDER_CONFIG]: "Provider refused credentials or sender",
  [FailureReason.PROVIDER_UNAVAILABLE]: "Provider unavailable",
  [FailureReason.EXPIRED]: "Out of time",
  [FailureReason.INTERNAL]: "Could not be prepared here",
  [FailureReason.OTHER]: "Other reasons",
};

export const CONSENTS: Words = {
  [ConsentState.UNKNOWN]: "Nothing on record",
  [ConsentState.OPTED_IN]: "Opted in",
  [ConsentState.OPTED_OUT]: "Opted out",
};

export const SOURCES: Words = {
  [ConsentSource.PORTAL]: "in the portal",
  [ConsentSource.STAFF]: "told staff",
  [ConsentSource.SMS_KEYWORD]: "by keyword (STOP, START)",
  [ConsentSource.SMS_FREE_TEXT]: "by a text that reads like a request to stop",
  [ConsentSource.UNSUBSCRIBE]: "by the link in an email",
  [ConsentSource.PROVIDER]: "reported by the provider",
  [ConsentSource.IMPORT]: "brought over from another system",
  [ConsentSource.FORM]: "on a signed form",
};

const ACTORS: Words = {
  [ActorType.SERVICE]: "a service",
  [ActorType.STAFF]: "staff",
  [ActorType.PATIENT]: "the patient",
  [ActorType.SYSTEM]: "Heedwell",
  [ActorType.PROVIDER]: "the provider",
};

export const word = (words: Words, value: number) => words[value] ?? "Other";

export function actor(who: Actor | undefined): string {
  if (!who) return "";
  return who.displayName || (who.type === ActorType.SYSTEM ? "Heedwell" : who.id) || word(ACTORS, who.type);
}

/** The values of an enum that are offered to choose from, by their words. */
export const choices = (words: Words) => Object.entries(words).map(([value, text]) => ({ value: Number(value), text }));

/** As it stands in an address. */
export const slug = (text: string) => text.toLowerCase().replace(/[^a-z]+/g, "-");

export const plural = (count: number | bigint, one: string, many = `${one}s`) => `${count.toLocaleString("en-US")} ${count == 1 ? one : many}`;
