// Feed: live changes, with their keys and without their values.
import { html, number, plural, Time } from "./parts.js";
import { Choice, Head, Key, Table } from "./screen.js";
import { ROOT, set, state } from "./state.js";

const KEPT = 200;
const HELD = 1000;
/** @type {import("./documents.d.ts").FeedChange[]} */
let rows = [];
let held = /** @type {typeof rows} */ ([]);
const feed = { paused: false, dropped: 0, seen: 0, collection: "", note: "", open: false };
const names = new Set();
let stream;
let drawn = 0;
let later;

function draw() {
  const wait = drawn + 250 - performance.now(); // a busy feed is drawn four times a second
  clearTimeout(later);
  if (wait > 0) later = setTimeout(draw, wait);
  else {
    drawn = performance.now();
    set();
  }
}

function add(change) {
  feed.seen++;
  for (const record of change.records) names.add(record.collection);
  if (feed.paused) {
    held.push(change);
    if (held.length > HELD) feed.dropped += held.splice(0, held.length - HELD).length;
  } else rows = [change, ...rows].slice(0, KEPT);
  draw();
}

export function refresh() {
  if (stream && stream.readyState !== EventSource.CLOSED) return;
  stream = new EventSource(new URL("api/v1/changes", ROOT));
  stream.onopen = () => { Object.assign(feed, { open: true, note: "" }); set(); };
  stream.addEventListener("change", (event) => {
    const change = JSON.parse(event.data);
    add({ ...change, sequence: change.sequence || event.lastEventId, records: change.records || [] });
  });
  for (const kind of ["expired", "away", "cut"]) {
    stream.addEventListener(kind, (event) => {
      const told = JSON.parse(event.data || "{}");
      feed.dropped += told.count || 0;
      feed.note = told.sentence || told.error || `The server says: ${kind}.`;
      draw();
    });
  }
  stream.onerror = () => { feed.open = false; draw(); };
}
addEventListener("hashchange", () => {
  if (state.route.name === "feed" || location.hash.startsWith("#/feed")) return;
  stream?.close();
  stream = null;
});

function pause() {
  feed.paused = !feed.paused;
  if (!feed.paused) {
    rows = [...held.reverse(), ...rows].slice(0, KEPT);
    held = [];
  }
  set();
}

export function Screen() {
  const wanted = (r) => !feed.collection || r.collection === feed.collection;
  const found = rows.filter((c) => c.records.some(wanted));
  const Records = ({ of }) => html`${of.slice(0, 5).map((r) => html`<div><span class="dim">${r.deleted ? "delete" : "put"}</span> ${r.collection} <${Key} of=${r.key} /></div>`)}${of.length > 5 && html`<div class="dim">and ${plural(of.length - 5, "more record")}</div>`}`;
  return html`<${Head} title="Feed"><button type="button" class="btn" aria-pressed=${feed.paused} onClick=${pause}>${feed.paused ? "Go on" : "Pause"}</button><//>
    <p class="dim">Commits of the primary as they happen: keys, and no values.</p>
    <div class="filters"><${Choice} label="Collection" value=${feed.collection} values=${[...names].sort()} onChange=${(v) => { feed.collection = v; set(); }} />
      <span>${feed.open ? "connected" : "not connected"}</span><span>${number(feed.seen)} seen</span>${feed.paused && html`<span>${number(held.length)} wait</span>`}<span>${number(feed.dropped)} dropped</span></div>
    ${feed.note && html`<p class="bad">${feed.note}</p>`}
    <${Table} caption="Changes, the newest first" columns=${["sequence", "at", "by", "records"]} empty=${feed.open ? "No commit since this screen was opened." : "Connecting to the feed."}
      rows=${found.map((c) => ({ key: c.sequence, cells: [html`<span class="key">${c.sequence}</span>`, html`<${Time} at=${c.at} />`, c.by, html`<${Records} of=${c.records.filter(wanted)} />`] }))} />`;
}
