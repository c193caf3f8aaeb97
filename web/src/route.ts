// Where one is: a view, what it shows, and its filters, all in the address, so that every view can be linked to.
import { useEffect, useRef, useState } from "preact/hooks";

export const VIEWS = ["deliveries", "conversations", "patients", "broadcasts", "settings"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  view: View;
  /** What of it, for example a patient's id. */
  id: string;
  params: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [name = "", id = ""] = path.split("/", 2);
  const view = VIEWS.find((each) => each === name) ?? "deliveries";
  return { view, id: decoded(id), params: new URLSearchParams(query) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** The address of a view. Of several practices the one that is shown goes along. */
export function href(view: View, id = "", params: Record<string, string> | URLSearchParams = {}): string {
  const query = new URLSearchParams(params);
  const practice = parse(location.hash).params.get("practice");
  if (practice && !query.has("practice")) query.set("practice", practice);
  for (const [name, value] of [...query]) if (!value) query.delete(name);
  const text = query.toString().replaceAll("%2C", ",");
  return `#/${view}${id && `/${encodeURIComponent(id)}`}${text && `?${text}`}`;
}

/** Goes there; `replace` leaves no step to go back to. */
export function go(address: string, replace = false): void {
  if (address === location.hash) return;
  if (replace) {
    history.replaceState(null, "", address);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = address;
  }
}

/** Opens and closes what lies beside or over a list: Back closes what was opened, and leaves no step for each that was looked at. */
export function useOpened(opened: string, to: (open: string) => string): (open: string) => void {
  const pushed = useRef(false);
  useEffect(() => {
    if (!opened) pushed.current = false;
  }, [opened]);
  return (open) => {
    if (!open && pushed.current) {
      pushed.current = false;
      history.back();
      return;
    }
    if (!opened) pushed.current = true;
    go(to(open), opened !== "");
  };
}

export function useRoute(): Route {
  const [route, set] = useState(() => parse(location.hash));
  useEffect(() => {
    const follow = () => set(parse(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}
