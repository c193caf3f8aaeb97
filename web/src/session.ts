// Who is signed in. The token goes to the server once and comes back as a cookie that no script sees; what is kept here is
// what the server says of its bearer.
import { Code, ConnectError } from "@connectrpc/connect";

export interface Bearer {
  subject: string;
  name: string;
  /** Null: every practice. */
  practices: string[] | null;
  roles: string[];
  expire_time: string;
}

/** Why there is no bearer. */
export type SignInError = "unknown" | "foreign" | "too-long" | "unreachable";

/** All tabs have one cookie: each tells the others when it changes. */
const tabs = new BroadcastChannel("heedwell-session");

/** What is done when another tab has signed in or out. */
export const onOthers = (act: (what: "in" | "out") => void) => (tabs.onmessage = ({ data }) => act(data));

/** The same person with the same rights, whatever the token. */
export const isSame = (one: Bearer, other: Bearer) =>
  one.subject === other.subject && String(one.practices) === String(other.practices) && String(one.roles) === String(other.roles);

/** Who is signed in; null: nobody. */
export async function whoIsIt(): Promise<Bearer | null> {
  const answer = await fetch("/sign-in");
  if (answer.status === 204) return null;
  if (answer.ok) return answer.json();
  throw new Error(answer.statusText);
}

export async function signIn(token: string): Promise<Bearer | SignInError> {
  try {
    const answer = await fetch("/sign-in", { method: "POST", body: token, headers: { "content-type": "text/plain" } });
    if (answer.ok) {
      tabs.postMessage("in");
      return answer.json();
    }
    return answer.status === 401 ? "unknown" : answer.status === 403 ? "foreign" : answer.status === 413 ? "too-long" : "unreachable";
  } catch {
    return "unreachable";
  }
}

/** Fails as long as the cookie is there. */
export async function signOut(): Promise<void> {
  const answer = await fetch("/sign-out", { method: "POST" }).catch(() => undefined);
  if (!answer?.ok) throw new ConnectError("You are still signed in, since the server did not answer. Please try again", Code.FailedPrecondition);
  tabs.postMessage("out");
}

/** A token in the part of the address that is never sent. It is taken out at once, so that it stays in no history. */
export function handedOver(): string {
  const token = /^#token=([\w.-]+)$/.exec(location.hash)?.[1];
  if (token) history.replaceState(null, "", location.pathname);
  return token ?? "";
}

let lost: () => void = () => {};

/** What is done when a call says that nobody is signed in any more. */
export const onLost = (act: () => void) => (lost = act);

/** Passes an error on, and notes it if it is a lost sign-in. */
export function noted<E>(error: E): E {
  if (ConnectError.from(error).code === Code.Unauthenticated) lost();
  return error;
}

/** Whether the bearer has one of these roles; an administrator is staff as well. */
export const holds = (bearer: Bearer, ...roles: string[]) =>
  roles.some((role) => bearer.roles.includes(role) || (role === "staff" && bearer.roles.includes("practice_admin")));
