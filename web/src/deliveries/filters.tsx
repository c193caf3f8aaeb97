import { useEffect, useRef } from "preact/hooks";
import { useKeys } from "../keys.js";
import { type Filter, GROUPS, PERIODS, isEmpty } from "./filter.js";

/** How long nothing is typed before what was typed counts. */
const REST_MS = 300;

interface Props {
  filter: Filter;
  set: (filter: Filter) => void;
  /** In a patient's view the patient is given. */
  fixed?: boolean;
}

/** Everything counts at once; there is no button to press. */
export function Filters({ filter, set, fixed }: Props) {
  const bar = useRef<HTMLElement>(null);
  useKeys({ "/": () => bar.current?.querySelector<HTMLElement>("summary, input")?.focus() });
  return (
    <search class="filters" ref={bar} aria-label="Filters">
      {GROUPS.map(({ field, title, choices }) => (
        <Group key={field} title={title} choices={choices} chosen={filter[field]} set={(values) => set({ ...filter, [field]: values })} />
      ))}
      {!fixed && <Text label="Patient ID" value={filter.patient} set={(patient) => set({ ...filter, patient })} />}
      <Text label="Reference" value={filter.reference} set={(reference) => set({ ...filter, reference })} />
      <label class="field">
        <span>Period</span>
        <select value={filter.period} onChange={(event) => set({ ...filter, period: event.currentTarget.value })}>
          {PERIODS.map(({ value, text }) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      </label>
      {!isEmpty(fixed ? { ...filter, patient: "" } : filter) && (
        <button class="quiet" onClick={() => set({ ...NONE, patient: fixed ? filter.patient : "" })}>
          Clear filters
        </button>
      )}
    </search>
  );
}

export const NONE: Filter = { states: [], channels: [], kinds: [], patient: "", reference: "", broadcast: "", period: "" };

interface GroupProps {
  title: string;
  choices: { value: number; text: string }[];
  chosen: number[];
  set: (values: number[]) => void;
}

/** Boxes to tick in a fold that closes when the focus leaves it. */
function Group({ title, choices, chosen, set }: GroupProps) {
  const fold = useRef<HTMLDetailsElement>(null);
  const close = () => fold.current?.removeAttribute("open");
  useEffect(() => {
    const outside = (event: Event) => fold.current?.contains(event.target as Node) || close();
    addEventListener("pointerdown", outside);
    return () => removeEventListener("pointerdown", outside);
  }, []);
  const names = choices.filter(({ value }) => chosen.includes(value)).map(({ text }) => text);
  return (
    <details
      class={names.length > 0 ? "menu on" : "menu"}
      ref={fold}
      onFocusOut={(event) => event.relatedTarget && !fold.current?.contains(event.relatedTarget as Node) && close()}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !fold.current?.open) return;
        event.stopPropagation();
        event.preventDefault();
        close();
        fold.current.querySelector("summary")?.focus();
      }}
    >
      <summary>
        {title}
        {names.length > 0 && <span class="chosen">{names.length > 2 ? `${names.length} chosen` : names.join(", ")}</span>}
      </summary>
      <fieldset>
        <legend class="unseen">{title}</legend>
        {choices.map(({ value, text }) => (
          <label key={value} class="check">
            <input
              type="checkbox"
              checked={chosen.includes(value)}
              onChange={() => set(chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value])}
            />
            {text}
          </label>
        ))}
      </fieldset>
    </details>
  );
}

function Text({ label, value, set }: { label: string; value: string; set: (value: string) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const timer = useRef(0);
  useEffect(() => {
    if (input.current && document.activeElement !== input.current) input.current.value = value;
  }, [value]);
  // Who has gone elsewhere meanwhile is not called back.
  useEffect(() => () => clearTimeout(timer.current), []);
  const take = () => {
    clearTimeout(timer.current);
    set(input.current?.value.trim() ?? "");
  };
  return (
    <label class="field">
      <span>{label}</span>
      <input
        ref={input}
        type="search"
        autocomplete="off"
        spellcheck={false}
        defaultValue={value}
        onInput={() => {
          clearTimeout(timer.current);
          timer.current = window.setTimeout(take, REST_MS);
        }}
        onChange={take}
      />
    </label>
  );
}
