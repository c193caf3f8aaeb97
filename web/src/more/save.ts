// Saving a part of the settings: only what the paths name, and not over what somebody else saved meanwhile.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PracticeSettings, PracticeSettingsSchema } from "../../gen/heedwell/v1/preferences_service_pb.js";
import { announce } from "../announce.js";
import { preferences } from "../api.js";
import { useHere } from "../practice.js";
import { type Loaded, useAction } from "../ui.js";

export function useSave(loaded: Loaded<PracticeSettings | undefined>) {
  const { id: practiceId } = useHere();
  const action = useAction();
  const save = (settings: MessageInitShape<typeof PracticeSettingsSchema>, paths: string[]) =>
    action.run(async () => {
      try {
        const etag = loaded.value?.etag ?? "";
        const answer = await preferences.updatePracticeSettings({ practiceId, settings: { ...settings, etag }, updateMask: { paths } });
        loaded.set(answer.settings);
        announce("Saved");
      } catch (cause) {
        loaded.reload();
        throw cause;
      }
    });
  return { ...action, save };
}
