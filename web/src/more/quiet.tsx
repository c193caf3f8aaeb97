import { useState } from "preact/hooks";
import type { PracticeSettings } from "../../gen/heedwell/v1/preferences_service_pb.js";
import type { TimeOfDay } from "../../gen/heedwell/v1/types_pb.js";
import { useHere } from "../practice.js";
import { type Loaded, Problem } from "../ui.js";
import { useSave } from "./save.js";

const two = (number: number) => String(number).padStart(2, "0");
const shown = (time: TimeOfDay | undefined) => (time ? `${two(time.hours)}:${two(time.minutes)}` : "");

function parsed(text: string) {
  const [hours = 0, minutes = 0] = text.split(":").map(Number);
  return { hours, minutes };
}

/** When texts and push messages wait. */
export function QuietHours({ settings }: { settings: Loaded<PracticeSettings | undefined> }) {
  const { isAdmin } = useHere();
  const { busy, error, save } = useSave(settings);
  const hours = settings.value?.quietHours;
  // What was typed alone: the settings may be loaded anew meanwhile.
  const [edits, set] = useState<{ start?: string; end?: string }>({});
  const { start, end } = { start: shown(hours?.start), end: shown(hours?.end), ...edits };
  const put = async (quietHours?: { start: ReturnType<typeof parsed>; end: ReturnType<typeof parsed> }) =>
    (await save(quietHours ? { quietHours } : {}, ["quiet_hours"])) && set({});
  const submit = (event: Event) => {
    event.preventDefault();
    void put({ start: parsed(start), end: parsed(end) });
  };
  return (
    <section class="sheet">
      <h2>Quiet hours</h2>
      <p class="dim small">Texts and push messages that are not urgent wait until they end, by the clock where the patient is. Email and in-app do not.</p>
      <form class="line" onSubmit={submit}>
        <label class="field">
          <span>From</span>
          <input type="time" required disabled={!isAdmin} value={start} onInput={(event) => set({ ...edits, start: event.currentTarget.value })} />
        </label>
        <label class="field">
          <span>Until</span>
          <input type="time" required disabled={!isAdmin} value={end} onInput={(event) => set({ ...edits, end: event.currentTarget.value })} />
        </label>
        {isAdmin && <button disabled={busy || (start === shown(hours?.start) && end === shown(hours?.end))}>Save</button>}
        {isAdmin && hours && (
          <button type="button" class="quiet" disabled={busy} onClick={() => put()}>
            Have none
          </button>
        )}
      </form>
      {!hours && !start && <p class="dim small">There are none.</p>}
      {error !== undefined && <Problem error={error} />}
    </section>
  );
}
