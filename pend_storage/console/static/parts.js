// Parts of the screens. Texts become text nodes, never markup.
import htm from "./vendor/htm.mjs";
import { h } from "./vendor/preact.mjs";
import { ask, isLive, state } from "./state.js";

export const html = htm.bind(h);

const NUMBER = new Intl.NumberFormat("en");
export const number = (n) => (typeof n === "number" ? NUMBER.format(n) : (n ?? "–"));
export const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

/** Seconds as a length of time, in two digits. */
export function span(seconds) {
  const n = Number(seconds ?? NaN);
  if (!Number.isFinite(n)) return "an unknown time";
  if (n < 120) return n < 1 ? `${+(n * 1000).toPrecision(2)} ms` : `${+n.toPrecision(n < 10 ? 2 : 3)} s`;
  if (n < 7200) return `${Math.round(n / 60)} min`;
  return n < 172800 ? `${Math.round(n / 3600)} h` : `${Math.round(n / 86400)} days`;
}

/** Time of day, with the date where it is not today. */
export function Time({ at }) {
  const time = new Date(at);
  if (!at || Number.isNaN(+time)) return "–";
  const today = time.toDateString() === new Date().toDateString();
  return html`<time datetime=${at} title=${at}>${today ? "" : `${time.toLocaleDateString("en-CA")} `}${time.toLocaleTimeString("en-GB")}</time>`;
}

// Levels differ in shape, not only in colour.
const SHAPES = {
  ok: "M8 1a7 7 0 100 14A7 7 0 008 1zM4.500 8L7 10.500l4.500-5",
  attention: "M8 1.500L15.200 14H.8zM8 6v4M8 12v.2",
  risk: "M8 .8L15.200 8 8 15.200.8 8zM8 4.800v4M8 11v.2",
  failing: "M5 1h6l4 4v6l-4 4H5l-4-4V5zM5.500 5.500l5 5M10.500 5.500l-5 5",
};
export const Level = ({ of }) => html`<span class="lv ${of}"><svg viewBox="0 0 16 16" aria-hidden="true"><path d=${SHAPES[of] || SHAPES.attention} /></svg><span class="vh">${of}: </span></span>`;

function copy({ currentTarget: button }) {
  const code = button.previousElementSibling;
  getSelection().selectAllChildren(code);
  // Only a secure address has a clipboard; elsewhere the text is selected.
  navigator.clipboard?.writeText(code.textContent);
}
export const Command = ({ text }) =>
  text && html`<span class="cmd"><code>${text}</code><button type="button" class="link" onClick=${copy} aria-label="copy ${text}">copy</button></span>`;

export const find = (name) => (state.snapshot?.read_only ? null : state.snapshot?.actions?.find((a) => a.name === name));

/** Button of an action; one that is off says why. Nothing where there is no such action. */
export function Act({ name, label, args, kind, then }) {
  const action = find(name);
  if (!action) return null;
  const why = !isLive() ? "The page is not live." : action.allowed ? null : action.why_not || "Not possible now.";
  return html`<span class="act"><button type="button" class=${kind} aria-disabled=${why ? "true" : null} onClick=${() => why || ask(name, args, label, then)}>${label}</button>${why && html`<small>${why}</small>`}</span>`;
}
