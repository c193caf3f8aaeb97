// What went wrong, in words for staff. Every error carries a google.rpc.ErrorInfo with a reason from the contract.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

/** The reason and what varies in it. */
export interface Info {
  reason: string;
  metadata: Map<string, string>;
}

type Fields = (field: number, reader: BinaryReader) => void;

/** Reads the length-delimited fields of a message; the details of errors have no others that matter here. */
function read(bytes: Uint8Array, take: Fields): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (type === WireType.LengthDelimited) take(field, reader);
    else reader.skip(type);
  }
}

function detail(error: ConnectError, type: string): Uint8Array | undefined {
  for (const each of error.details) {
    if ("type" in each && typeof each.type === "string" && each.type === type && each.value instanceof Uint8Array) return each.value;
  }
  return undefined;
}

export function info(error: unknown): Info {
  const found: Info = { reason: "", metadata: new Map() };
  const bytes = detail(ConnectError.from(error), "google.rpc.ErrorInfo");
  if (!bytes) return found;
  read(bytes, (field, reader) => {
    const value = reader.bytes();
    const text = () => new TextDecoder().decode(value);
    if (field === 1) found.reason = text();
    if (field === 3) {
      const pair: string[] = [];
      read(value, (side, inner) => (pair[side - 1] = inner.string()));
      found.metadata.set(pair[0] ?? "", pair[1] ?? "");
    }
  });
  return found;
}

/** The fields that were found wrong, and why. */
export function violations(error: unknown): { field: string; description: string }[] {
  const found: { field: string; description: string }[] = [];
  const bytes = detail(ConnectError.from(error), "google.rpc.BadRequest");
  if (bytes) {
    read(bytes, (_, reader) => {
      const pair: string[] = [];
      read(reader.bytes(), (side, inner) => (pair[side - 1] = inner.string()));
      found.push({ field: pair[0] ?? "", description: pair[1] ?? "" });
    });
  }
  return found;
}

/** The connection or the server failed, and not what was asked: another try may do. */
export const isPassing = (code: Code) =>
  [Code.Unavailable, Code.Unknown, Code.Internal, Code.DeadlineExceeded, Code.Canceled, Code.ResourceExhausted, Code.Aborted].includes(code);

/** Fields of the contract that this page fills, as it calls them. */
const FIELDS: Record<string, string> = {
  address: "the phone or mailbox",
  attachment_ids: "a file",
  audience: "the audience",
  body: "the text",
  channels: "the choice of channels",
  choices: "the choice of channels",
  content: "the file",
  end_time: "the end",
  evidence: "the evidence",
  file_name: "the name of the file",
  kind_channels: "the choice of channels",
  media_type: "the type of the file",
  patient_id: "the patient ID",
  patient_ids: "a patient ID",
  practice_id: "the practice ID",
  query: "the name or ID",
  quiet_hours: "the quiet hours",
  reference: "the reference",
  schedule_time: "the time",
  start_time: "the beginning",
  subject: "the subject",
  tags: "a tag",
  test_contacts: "the phone or mailbox",
  title: "the title",
};

/** What a path such as `broadcast.audience.tags.values[0]` leads to; the last name that staff know it by. */
function named(path: string): string {
  const labels = path.split(".").map((name) => FIELDS[name.replace(/\[.*/, "")]);
  return labels.findLast((label) => label) ?? (path && "this field");
}

/** A sentence for staff. */
export function explain(cause: unknown): string {
  const error = ConnectError.from(cause);
  const { reason, metadata } = info(error);
  switch (reason) {
    case "ROLE_REQUIRED":
      return `This needs the role “${metadata.get("required_role") ?? "staff"}”, which your sign-in does not have.`;
    case "SCOPE_FORBIDDEN":
      return "Your sign-in does not cover this practice.";
    case "FIELD_INVALID": {
      const list = violations(error).map(({ field, description }) => `${named(field)} ${description}`.trim());
      return list.length > 0 ? sentence(list.join("; ")) : sentence(error.rawMessage);
    }
    case "ETAG_MISMATCH":
      return "Somebody else changed this in the meantime. It was loaded again; please look and repeat.";
    case "REQUEST_ID_REUSED":
      return "Something else was sent from here before, and its answer was lost. Please look whether it went out, and repeat what is missing.";
    case "RATE_LIMITED":
      return "The server has too much to do just now. Please try again in a moment.";
    case "STORE_UNAVAILABLE":
      return "The server cannot reach its database just now. Please try again in a moment.";
    case "INTERNAL":
      return `Something went wrong in the server (incident ${metadata.get("incident_id") ?? "unknown"}).`;
  }
  if (error.code === Code.Unimplemented) return "This server does not offer this yet.";
  if (error.code === Code.Unauthenticated) return "You are signed out.";
  if (reason === "" && isPassing(error.code)) return "The server cannot be reached.";
  return sentence(error.rawMessage);
}

function sentence(text: string): string {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}
