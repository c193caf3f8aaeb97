// The practice whose data is shown, and who looks at it.
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Practice } from "../gen/heedwell/v1/directory_service_pb.js";
import { type ChannelStatus, ChannelStatus_State, type PracticeSettings, type SetupFinding } from "../gen/heedwell/v1/preferences_service_pb.js";
import type { Channel } from "../gen/heedwell/v1/types_pb.js";
import { type Bearer, holds } from "./session.js";
import type { Loaded } from "./ui.js";
import { days } from "./time.js";

export interface Here {
  id: string;
  bearer: Bearer;
  practice: Practice | undefined;
  settings: Loaded<PracticeSettings | undefined>;
}

export const HereContext = createContext<Here | null>(null);

export function useHere(): Here & { isStaff: boolean; isAdmin: boolean } {
  const here = useContext(HereContext);
  if (!here) throw new Error("no practice");
  return { ...here, isStaff: holds(here.bearer, "staff"), isAdmin: holds(here.bearer, "practice_admin") };
}

/** Channels that something goes over by itself and that cannot send, with what is in the way. */
export function troubles(settings: PracticeSettings | undefined): { channel: Channel; findings: SetupFinding[] }[] {
  if (!settings) return [];
  const used = new Set(settings.kindChannels.flatMap(({ channels }) => channels));
  const isBroken = ({ channel, state }: ChannelStatus) =>
    state === ChannelStatus_State.FAILING || (state === ChannelStatus_State.NOT_SET_UP && used.has(channel));
  return settings.channelStatuses.filter(isBroken).map(({ channel, findings, state }) => ({
    channel,
    findings: findings.filter(({ blocking }) => blocking || state === ChannelStatus_State.FAILING),
  }));
}

/** Where a text would be that retention has removed. */
export function textGone(settings: PracticeSettings | undefined): string {
  const kept = settings?.contentRetention?.seconds;
  return kept ? `The text is gone. Texts are kept for ${days(kept)}.` : "The text is gone.";
}
