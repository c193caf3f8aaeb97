// Keys of one letter. They are off while somebody types, and for good for whoever switches them off, since speech input and
// shaking hands press them by chance (WCAG 2.2, 2.1.4).
import { useEffect, useState } from "preact/hooks";
import { href, go } from "./route.js";
import { stream } from "./stream.js";
import { Dialog } from "./ui.js";

/** What a key does; false if this time it is not meant. */
type Keys = Record<string, () => unknown>;

const SWITCH = "heedwell-keys";
const layers: Keys[] = [];
let prefix = "";

const LIST: [string, string][] = [
  ["/", "Filter"],
  ["j or ↓", "Next row"],
  ["k or ↑", "Row before"],
  ["Enter", "Open"],
  ["Esc", "Close"],
  ["p", "Pause and go on"],
  ["g d", "Deliveries"],
  ["g c", "Conversations"],
  ["g p", "Patients"],
  ["g b", "Broadcasts"],
  ["g s", "Settings"],
  ["?", "This list"],
];

const VIEWS: Keys = {
  d: () => go(href("deliveries")),
  c: () => go(href("conversations")),
  p: () => go(href("patients")),
  b: () => go(href("broadcasts")),
  s: () => go(href("settings")),
};

export const areOn = () => localStorage.getItem(SWITCH) !== "off";

const isTyping = (target: EventTarget | null) =>
  target instanceof HTMLElement && target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]") !== null;

function press(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]")) return;
  const { key } = event;
  if (key !== "Escape" && (isTyping(event.target) || !areOn())) return;
  const act = prefix ? VIEWS[key] : layers.findLast((keys) => keys[key])?.[key];
  prefix = !prefix && key === "g" && areOn() ? "g" : "";
  if (act && act() !== false) event.preventDefault();
}

addEventListener("keydown", press);

/** Keys for as long as the component is there. */
export function useKeys(keys: Keys): void {
  useEffect(() => {
    layers.push(keys);
    return () => void layers.splice(layers.indexOf(keys), 1);
  });
}

/** The next or the former of those that `selector` names gets the focus. */
function step(selector: string, by: 1 | -1): void {
  const all = [...document.querySelectorAll<HTMLElement>(selector)];
  const at = all.findIndex((each) => each === document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by));
  all[next]?.focus();
  all[next]?.scrollIntoView({ block: "nearest" });
}

/** Keys that go through a list. Arrows belong to what has the focus (radios, what can be scrolled), and are the list's only there or
 * where nothing has it. */
export function useSteps(selector: string): void {
  const arrow = (by: 1 | -1) => {
    const at = document.activeElement;
    return (at === document.body || at?.matches(selector) === true) && step(selector, by);
  };
  useKeys({ j: () => step(selector, 1), k: () => step(selector, -1), ArrowDown: () => arrow(1), ArrowUp: () => arrow(-1) });
}

/** Keys that hold everywhere, and their list. */
export function Help() {
  const [open, show] = useState(false);
  const [on, set] = useState(areOn);
  useKeys({ "?": () => show(true), p: () => stream.toggle() });
  return (
    <>
      <button class="icon" aria-label="List of keys" title="List of keys (?)" onClick={() => show(true)}>
        ?
      </button>
      {open && (
        <Dialog title="Keys" close={() => show(false)}>
          <dl class="keys">
            {LIST.map(([keys, what]) => (
              <div key={keys}>
                <dt>
                  <kbd>{keys}</kbd>
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
          <label class="check">
            <input
              type="checkbox"
              checked={on}
              onChange={() => {
                localStorage.setItem(SWITCH, on ? "off" : "on");
                set(!on);
              }}
            />
            Keys of one letter are on
          </label>
          <div class="buttons">
            <button class="primary" onClick={() => show(false)}>
              Close
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
