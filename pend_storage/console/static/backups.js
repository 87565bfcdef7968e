// Backups: what there is, how old, whether it was verified, and the last drill.
import { Act, Command, html, number, span, Time } from "./parts.js";
import { Head, Key, reload, State, Table } from "./screen.js";
import { facts, state } from "./state.js";

export const refresh = () => reload("api/v1/backups", facts().backup?.count);

const size = (n) => (n == null ? "–" : n < 1e6 ? `${number(Math.ceil(n / 1e3))} kB` : n < 1e9 ? `${number(Math.round(n / 1e5) / 10)} MB` : `${number(Math.round(n / 1e8) / 10)} GB`);

const Drill = ({ of }) => html`<section class="card"><h2>Last drill</h2>${of ? html`<p><span class="state ${of.outcome}">${of.outcome}</span> <${Time} at=${of.at} /></p>
  <p>${of.rto_seconds != null && `It restored the data in ${span(of.rto_seconds)}`}${of.rpo_seconds != null && `, up to ${span(of.rpo_seconds)} before the end`}</p>${of.reason && html`<p class="bad">${of.reason}</p>`}`
  : html`<p class="empty">There was none: nothing shows yet that a backup can be restored.</p><${Command} text="pend-storage backup drill" />`}</section>`;

export function Screen() {
  const { data } = state.view;
  return html`<${Head} title="Backups"><${Act} name="backup" label="Create a backup" /><${Act} name="verify-backup" label="Verify" /><//><${State} />
    ${data?.problem && html`<p class="bad">${data.problem}</p>`}
    ${data && html`<p class="dim">${data.repository ? html`Repository <span class="key">${data.repository}</span>` : "No repository of backups is configured."}</p>
    <${Table} caption="Backups, the newest first" columns=${["backup", "state at", "age", "verified", "size", "condition", ""]} empty="There is no backup."
      rows=${(data.items || []).map((b) => ({ key: b.id, cells: [html`<${Key} of=${b.id} />`, html`<${Time} at=${b.at} />`, span(b.age_seconds), b.verified_at ? html`<${Time} at=${b.verified_at} />` : "never", size(b.bytes), b.state, html`<${Act} name="verify-backup" label="Verify" args=${{ id: b.id }} />`] }))} />
    <div class="two"><${Drill} of=${data.drill} /><section class="card"><h2>Restore</h2><p>A restore goes into a side store, and changes no live one. It is done by command:</p><${Command} text="pend-storage backup restore" /></section></div>`}`;
}
