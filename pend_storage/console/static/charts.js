// Charts, each with its numbers as a table. The library is loaded with this screen.
import { Component } from "./vendor/preact.mjs";
import { html, number } from "./parts.js";
import { Head, reload, Table } from "./screen.js";
import { set, state } from "./state.js";

const CHARTS = [
  ["latency", "Latency of the stores", "ms"],
  ["ops", "Operations a second", "/s"],
  ["lag_seconds", "Lag", "s"],
  ["compared", "Compared reads", ""],
  ["switch_pauses", "Pauses of writes at switches", "s"],
];
const COLORS = ["--link", "--risk", "--ok", "--attention", "--failing", "--dim"];
const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3], [1, 2], [12, 4]];
const SHOWN = 60;

let ready = false;
let whole = false;
export async function refresh() {
  if (whole) reload("api/v1/series", Math.floor(Date.now() / 10000));
  if (ready || document.getElementById("uplot")) return;
  const at = new URL("vendor/", import.meta.url);
  const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("uPlot.min.css", at).href });
  const script = Object.assign(document.createElement("script"), { id: "uplot", src: new URL("uPlot.iife.min.js", at).href });
  script.onload = () => { ready = true; set(); };
  document.head.append(style, script);
}

const seconds = (t) => (typeof t === "number" ? t : Date.parse(t) / 1000);

/** Lines of a series, named by the groups they stand in: `[[name, points], ...]`. */
function lines(series, name = "") {
  if (Array.isArray(series)) return [[name, series]];
  return Object.entries(series || {}).flatMap(([part, inner]) => lines(inner, name ? `${name} ${part}` : part));
}

/** Median and 95th percentile of the last half minute, at each look: `[[name, points], ...]`. */
function percentiles(found) {
  const shares = /** @type {[string, number][]} */ ([["p50", 0.5], ["p95", 0.95]]);
  return shares.flatMap(([label, share]) => found.map(([name, points]) => [`${name} ${label}`, points.map(([t], n) => {
    const values = points.slice(Math.max(0, n - 29), n + 1).map((p) => p[1]).filter((v) => v != null).sort((a, b) => a - b);
    return [t, values.length ? values[Math.ceil(values.length * share) - 1] : null];
  })]));
}

/** One row of values for each time of any line. */
function aligned(found) {
  const times = [...new Set(found.flatMap(([, points]) => points.map((p) => seconds(p[0]))))].sort((a, b) => a - b);
  return [times, ...found.map(([, points]) => {
    const at = new Map(points.map((p) => [seconds(p[0]), p[1] == null ? null : Number(p[1])]));
    return times.map((t) => at.get(t) ?? null);
  })];
}


class Plot extends Component {
  keep = (box) => {
    this.box = box || this.box;
  };
  componentDidMount() {
    this.draw();
    this.resized = new ResizeObserver(() => this.plot?.setSize({ width: this.box.clientWidth, height: 190 }));
    this.resized.observe(this.box);
  }
  componentDidUpdate() {
    const theme = getComputedStyle(document.body).backgroundColor;
    if (this.theme === theme && this.names === this.props.names.join()) this.plot.setData(this.props.data);
    else this.draw();
  }
  componentWillUnmount() {
    this.resized.disconnect();
    this.plot?.destroy();
  }
  draw() {
    this.plot?.destroy();
    const probe = (name) => {
      this.box.style.color = `var(${name})`; // resolves light-dark()
      const color = getComputedStyle(this.box).color;
      this.box.style.color = "";
      return color;
    };
    const axis = { stroke: probe("--dim"), grid: { stroke: probe("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const { names, data, unit } = this.props;
    this.theme = getComputedStyle(document.body).backgroundColor;
    this.names = names.join();
    this.plot = new /** @type {any} */ (window).uPlot({
      width: this.box.clientWidth, height: 190, legend: { show: false }, cursor: { show: false },
      axes: [{ ...axis, size: 28, values: (_, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" })), space: 90 },
        { ...axis, size: 60, values: (_, ticks) => ticks.map((n) => `${number(n)} ${unit}`) }],
      scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 1, 1e-9) * 1.05] } },
      series: [{}, ...names.map((_, n) => ({ stroke: probe(COLORS[n % 6]), dash: DASHES[n % 6], width: 1.75, spanGaps: true, points: { show: data[0].length < 3 } }))],
    }, data, this.box);
  }
  render() {
    return html`<div class="plot" aria-hidden="true" ref=${this.keep}></div>`;
  }
}

const rounded = (n) => (n == null ? "–" : number(Number(n.toPrecision(4))));

function Chart({ of: [name, title, unit], series }) {
  let found = lines(series).filter(([, points]) => points.length);
  // What the server has not summed up yet: the looks of the console itself.
  if (name === "latency" && !found.some(([line]) => line.includes("p95"))) found = percentiles(found);
  const names = found.map(([line]) => line || title.toLowerCase());
  const data = aligned(found);
  const rows = data[0].map((t, n) => ({ key: t, cells: [new Date(t * 1000).toLocaleTimeString("en-GB"), ...data.slice(1).map((line) => rounded(line[n]))] })).slice(-SHOWN).reverse();
  return html`<figure class="card"><figcaption><h2>${title}${unit && ` (${unit.replace("/s", "per second")})`}</h2>
      ${names.length > 1 && html`<ul class="legend">${names.map((line, n) => html`<li><svg viewBox="0 0 26 6" aria-hidden="true"><path d="M0 3h26" class="line${n % 6}" stroke-dasharray=${DASHES[n % 6].join(" ")} /></svg>${line}</li>`)}</ul>`}</figcaption>
    ${!found.length ? html`<p class="empty">Nothing was measured yet.</p>` : html`${ready && html`<${Plot} names=${names} data=${data} unit=${unit} />`}
    <details><summary>${title} as table</summary><${Table} caption="${title}, the newest first" columns=${["time", ...names]} rows=${rows} /></details>`}</figure>`;
}

export function Screen({ s }) {
  const series = (whole && state.view.data?.series) || s.series;
  const turn = () => {
    whole = !whole;
    set();
  };
  return html`<${Head} title="Charts"><button type="button" class="btn" aria-pressed=${whole} onClick=${turn}>Last hour</button><//><div class="charts">${CHARTS.map((chart) => html`<${Chart} key=${chart[0]} of=${chart} series=${series?.[chart[0]]} />`)}</div>`;
}
