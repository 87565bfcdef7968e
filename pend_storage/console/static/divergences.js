// Divergences: what differs between the stores, field by field.
import { Act, html, number, Time } from "./parts.js";
import { again, Choice, Head, Key, More, reload, shown, State, Table } from "./screen.js";
import { facts, set, state } from "./state.js";

const filter = { collection: "", kind: "", source: "" };
const opened = new Set();
/** @type {Record<string, any>} Values that were revealed, by id. */
const revealed = {};

export function refresh() {
  const asked = Object.entries(filter).filter(([, value]) => value);
  reload(`api/v1/divergences${asked.length ? `?${new URLSearchParams(asked)}` : ""}`, facts().details?.divergences);
}

const choose = (name) => (value) => {
  filter[name] = value;
  again();
};

function Difference({ of: item }) {
  const differences = revealed[item.id] || item.differences;
  return html`${differences?.length ? html`<table class="diff"><caption class="vh">Fields of ${item.key} that differ</caption>
      <thead><tr><th scope="col">field</th><th scope="col">primary, version ${item.primary_version}</th><th scope="col">secondary, version ${item.secondary_version}</th></tr></thead>
      <tbody>${differences.map((d) => html`<tr><th scope="row">${[d.path ?? d[0]].flat().join(".")}</th><td><span class="vh">primary: </span>${shown(d.left ?? d[1])}</td><td><span class="vh">secondary: </span>${shown(d.right ?? d[2])}</td></tr>`)}</tbody></table>`
      : html`<p class="dim">${item.kind === "missing" ? "Only the primary has this record." : item.kind === "extra" ? "Only the secondary has this record." : "No field is shown."}</p>`}
    ${item.more_differences > 0 && html`<p class="dim">${number(item.more_differences)} more places differ.</p>`}
    <p class="acts"><${Act} name="accept-divergence" label="Accept" args=${{ id: item.id }} />
      <${Act} name="reveal-divergence" label="Reveal the values" args=${{ id: item.id }} then=${(result) => { revealed[item.id] = result.differences; set(); }} /></p>`;
}

function toggle(id) {
  if (!opened.delete(id)) opened.add(id);
  set();
}

export function Screen() {
  const { data } = state.view;
  const items = data?.items || [];
  const names = (name) => [...new Set([...items.map((i) => i[name]), filter[name]])].filter(Boolean).sort();
  const rows = items.flatMap((i) => [
    { key: i.id, cells: [html`<button type="button" class="link" aria-expanded=${opened.has(i.id)} onClick=${() => toggle(i.id)}><${Key} of=${i.key || "(an answer)"} /></button>`,
      i.collection, i.kind, i.source, `${i.primary_version} / ${i.secondary_version}`, html`<${Time} at=${i.first_seen} />`, html`<${Time} at=${i.last_seen} />`] },
    ...(opened.has(i.id) ? [{ key: `${i.id}+`, kind: "open", cells: [html`<${Difference} of=${i} />`] }] : []),
  ]);
  return html`<${Head} title="Divergences"><${Act} name="validate" label="Validate" /><${Act} name="repair" label="Repair all" /><//>
    <p class="dim">Records that differ between the stores, confirmed by reading again. Personal values are redacted.</p>
    <div class="filters"><${Choice} label="Collection" value=${filter.collection} values=${names("collection")} onChange=${choose("collection")} />
      <${Choice} label="Kind" value=${filter.kind} values=${["missing", "extra", "different", "answer"]} onChange=${choose("kind")} />
      <${Choice} label="Source" value=${filter.source} values=${names("source")} onChange=${choose("source")} /></div>
    <${State} />${data && html`<${Table} caption="Divergences" columns=${["key", "collection", "kind", "source", "versions", "first seen", "last seen"]} rows=${rows}
      empty=${Object.values(filter).some(Boolean) ? "No divergence is of this kind." : "The stores agree: no divergence is open."} />`}<${More} of=${data} />`;
}
