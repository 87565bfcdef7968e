// What the screens behind the first one share: loading, tables, facts.
import { html } from "./parts.js";
import { call, set, state } from "./state.js";

let known = "";

/**
 * Load a screen's document when its address, the connection or a count of it changed.
 * @param {string} path
 * @param {unknown} [counts] what the snapshot says about it
 */
export async function reload(path, counts) {
  const key = JSON.stringify([path, state.connections, counts]);
  if (key === known) return;
  known = key;
  if (state.view.path !== path) set({ view: { path } });
  const { status, data } = await call(path);
  if (state.view.path !== path) return;
  const ok = status === 200;
  set({ view: { path, data: ok ? data : state.view.data, error: ok ? null : data.error } });
}
export function again() {
  known = "";
  set();
}

/** Append the next page to the items that are shown. */
export async function more() {
  const { path, data } = state.view;
  const next = await call(`${path}${path.includes("?") ? "&" : "?"}after=${encodeURIComponent(data.next)}`);
  if (state.view.path !== path || next.status !== 200) return;
  set({ view: { path, data: { ...next.data, items: [...data.items, ...next.data.items] } } });
}
export const More = ({ of }) => of?.next && html`<p class="acts"><button type="button" class="btn" onClick=${more}>Show more</button></p>`;

export const Head = ({ title, children }) => html`<div class="head"><h1>${title}</h1>${children}</div>`;

/** What is there instead of a document: the fault, or that it is on its way. */
export const State = () => {
  const { error, data } = state.view;
  return error ? html`<p class="bad" role="status">${error}</p>` : !data && html`<p class="empty">Loading.</p>`;
};

/** Table of `rows`, each `{key, cells}`; on a phone each cell is under its column's name. */
export const Table = ({ caption, columns, rows, empty }) =>
  rows.length
    ? html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table><caption class="vh">${caption}</caption>
      <thead><tr>${columns.map((c) => html`<th scope="col">${c}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${row.key} class=${row.kind}>${row.cells.map((cell, n) => html`<td data-of=${columns[n]} colspan=${row.kind === "open" ? columns.length : null}><div>${cell ?? "–"}</div></td>`)}</tr>`)}</tbody></table></div>`
    : html`<p class="none card">${empty}</p>`;

/** Choice of one value of a list; an empty value is all of them. */
export const Choice = ({ label, value, values, onChange }) => html`<label>${label} <select onChange=${(e) => onChange(e.target.value)}>
  <option value="" selected=${!value}>all</option>${values.map((v) => html`<option key=${v} value=${v} selected=${v === value}>${v}</option>`)}</select></label>`;

/** Any value as text: a list of sentences, or names and values. */
export function Facts({ of }) {
  if (of == null || typeof of !== "object") return typeof of === "boolean" ? (of ? "yes" : "no") : String(of ?? "–");
  if (Array.isArray(of)) {
    if (!of.length) return "none";
    return html`<ul>${of.map((item) => html`<li>${item?.sentence ? html`${item.code && html`<b>${item.code}</b> `}${item.sentence}` : html`<${Facts} of=${item} />`}</li>`)}</ul>`;
  }
  const rows = Object.entries(of).filter(([, value]) => value != null && value !== "");
  return html`<dl>${rows.map(([name, value]) => html`<dt>${name.replaceAll("_", " ")}</dt><dd><${Facts} of=${value} /></dd>`)}</dl>`;
}

/** Value of a record's field. */
export const shown = (value) => (value === undefined ? "(absent)" : typeof value === "string" ? value : JSON.stringify(value));

/** Key of a record or name of a file: quotes show its ends, escapes what cannot be seen. */
export const Key = ({ of }) => html`<bdi class="key">${String(of ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`)}</bdi>`;
