import { type Attachment, Attachment_State as State } from "../../gen/heedwell/v1/conversations_service_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { requestId } from "../api.js";
import { useHere } from "../practice.js";
import { Problem, useAction } from "../ui.js";
import { word } from "../words.js";
import { conversations } from "./api.js";

/** What the server takes; it looks into the file and not at its name. */
const TYPES = "image/jpeg,image/png,image/gif,application/pdf,text/plain";
/** As many as one message may carry. */
const MOST = 10;
/** As large as one may be. The server refuses larger ones, but only once they have come up. */
const LARGEST = 3 * 1_024 * 1_024;

const STATES: Record<number, string> = {
  [State.PENDING]: "on its way",
  [State.FAILED]: "could not be fetched",
  [State.REMOVED]: "removed",
};

/** Hands a file to the browser, which puts it where downloads go and does not open it here: it may come from anybody. */
export function save(parts: BlobPart[], type: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function size(bytes: bigint): string {
  const kib = Number(bytes) / 1_024;
  return kib < 1_000 ? `${Math.max(1, Math.round(kib))} KB` : `${(kib / 1_024).toFixed(1)} MB`;
}

/** A file of a message. */
export function File({ file }: { file: Attachment }) {
  const { id: practiceId } = useHere();
  const { busy, error, run } = useAction();
  const name = file.fileName || file.mediaType;
  const fetch = () =>
    run(async () => {
      const parts: BlobPart[] = [];
      for await (const { data } of conversations.downloadAttachment({ practiceId, attachmentId: file.attachmentId })) parts.push(data.slice());
      save(parts, file.mediaType, name);
    });
  return (
    <p class="small file">
      {file.state === State.READY ? (
        <button disabled={busy} onClick={fetch}>
          Download {name}
        </button>
      ) : (
        <>
          <span class="tag">{name}</span> {word(STATES, file.state)}
        </>
      )}
      {file.sizeBytes > 0n && <span class="dim"> {size(file.sizeBytes)}</span>}
      {error !== undefined && <Problem error={error} />}
    </p>
  );
}

interface Props {
  files: Attachment[];
  set: (files: Attachment[]) => void;
  /** Of whoever sends the message, which has to wait for them. */
  action: ReturnType<typeof useAction>;
  /** The message is on its way. */
  fixed: boolean;
}

/** Files that go with the next message: each is uploaded as soon as it is chosen. */
export function Uploads({ files, set, action, fixed }: Props) {
  const { id: practiceId } = useHere();
  const { busy, error, run } = action;
  const upload = (chosen: globalThis.File[]) =>
    run(async () => {
      const large = chosen.find((file) => file.size > LARGEST);
      if (large) throw new ConnectError(`“${large.name}” is larger than 3 MB, which is the most that can be attached`, Code.InvalidArgument);
      const added = [...files];
      for (const file of chosen) {
        const content = new Uint8Array(await file.arrayBuffer());
        const answer = await conversations.uploadAttachment({ practiceId, requestId: requestId(), fileName: file.name.slice(-128), mediaType: file.type, content });
        if (answer.attachment) added.push(answer.attachment);
        set([...added]);
      }
    });
  return (
    <div class="uploads">
      <label class="button">
        {busy ? "Uploading" : "Attach files"}
        <input
          type="file"
          class="unseen"
          multiple
          accept={TYPES}
          disabled={busy || fixed || files.length >= MOST}
          onChange={(event) => {
            void upload([...(event.currentTarget.files ?? [])]);
            event.currentTarget.value = "";
          }}
        />
      </label>
      {files.map((file) => (
        <span key={file.attachmentId} class="tag">
          {file.fileName}, {size(file.sizeBytes)}{" "}
          <button type="button" class="quiet" disabled={busy || fixed} aria-label={`Leave out ${file.fileName}`} onClick={() => set(files.filter((each) => each !== file))}>
            ×
          </button>
        </span>
      ))}
      {error !== undefined && <Problem error={error} />}
    </div>
  );
}
