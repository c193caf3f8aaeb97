import { useState } from "preact/hooks";
import type { PracticeSettings } from "../../gen/heedwell/v1/preferences_service_pb.js";
import { NotificationKind } from "../../gen/heedwell/v1/types_pb.js";
import type { Channel } from "../../gen/heedwell/v1/types_pb.js";
import { useHere } from "../practice.js";
import { type Loaded, Problem } from "../ui.js";
import { CHANNELS, KINDS, choices, word } from "../words.js";
import { useSave } from "./save.js";

/** On: used for whoever made no choice. Offered: may be chosen by the patient. */
interface Kind {
  kind: number;
  channels: Channel[];
  offeredChannels: Channel[];
}

const ALL = choices(CHANNELS).map(({ value }) => value as Channel);

const read = (settings: PracticeSettings): Kind[] =>
  choices(KINDS)
    .filter(({ value }) => value > 0)
    .map(({ value: kind }) => {
      const found = settings.kindChannels.find((each) => each.kind === kind);
      return { kind, channels: [...(found?.channels ?? [])].sort(), offeredChannels: [...(found?.offeredChannels ?? [])].sort() };
    });

export function KindTable({ settings }: { settings: Loaded<PracticeSettings | undefined> }) {
  const { isAdmin } = useHere();
  const { busy, error, save } = useSave(settings);
  // What differs alone: the settings may be loaded anew meanwhile.
  const [edits, set] = useState(new Map<number, Kind>());
  if (!settings.value) return null;
  const before = read(settings.value);
  const draft = before.map((each) => edits.get(each.kind) ?? each);
  const isChanged = JSON.stringify(draft) !== JSON.stringify(before);
  const put = (kind: Kind) => set(new Map(edits).set(kind.kind, kind));
  const submit = async () => (await save({ kindChannels: draft }, ["kind_channels"])) && set(new Map());
  return (
    <section class="sheet">
      <h2>Channels per kind</h2>
      <p class="dim small">
        “Sends” holds for patients who chose nothing themselves. “May choose” is what patients may switch on or off; a choice of theirs replaces the practice’s.
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Channels per kind">
        <table class="plain grid">
          <caption class="unseen">Channels per kind of message</caption>
          <thead>
            <tr>
              <th scope="col">Kind</th>
              {choices(CHANNELS).map(({ value, text }) => (
                <th scope="col" key={value}>
                  {text}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {draft.map((kind) => (
              <Row key={kind.kind} kind={kind} put={put} fixed={!isAdmin || busy} />
            ))}
          </tbody>
        </table>
      </div>
      {error !== undefined && <Problem error={error} />}
      {isChanged && (
        <p class="buttons">
          <button class="primary" disabled={busy} onClick={submit}>
            Save
          </button>
          <button disabled={busy} onClick={() => set(new Map())}>Undo</button>
        </p>
      )}
    </section>
  );
}

function Row({ kind, put, fixed }: { kind: Kind; put: (kind: Kind) => void; fixed: boolean }) {
  const name = word(KINDS, kind.kind);
  const { channels, offeredChannels } = kind;
  // None named: all may be chosen.
  const offered = offeredChannels.length > 0 ? offeredChannels : ALL;
  const flip = (list: Channel[], channel: Channel) => (list.includes(channel) ? list.filter((each) => each !== channel) : [...list, channel].sort());
  const offer = (channel: Channel) => {
    const next = flip(offered, channel);
    put({ ...kind, channels: channels.filter((each) => next.includes(each)), offeredChannels: next.length === ALL.length ? [] : next });
  };
  const send = (channel: Channel) => {
    const next = flip(channels, channel);
    const widened = next.includes(channel) && !offered.includes(channel) ? flip(offered, channel) : offered;
    put({ ...kind, channels: next, offeredChannels: widened.length === ALL.length ? [] : widened });
  };
  return (
    <tr>
      <th scope="row">{name}</th>
      {ALL.map((channel) => (
        <td key={channel}>
          {kind.kind !== NotificationKind.ANNOUNCEMENT && (
            <label class="check">
              <input
                type="checkbox"
                aria-label={`${name} sends by ${word(CHANNELS, channel)}`}
                checked={channels.includes(channel)}
                disabled={fixed}
                onChange={() => send(channel)}
              />
              Sends
            </label>
          )}
          <label class="check dim">
            <input
              type="checkbox"
              aria-label={`${name} by ${word(CHANNELS, channel)} may be chosen`}
              checked={offered.includes(channel)}
              // At least one, since none would mean all.
              disabled={fixed || (offered.length === 1 && offered.includes(channel))}
              onChange={() => offer(channel)}
            />
            May choose
          </label>
        </td>
      ))}
    </tr>
  );
}
