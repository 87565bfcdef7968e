// Frame of the console, and the screen that is open.
import { render } from "./vendor/preact.mjs";
import { Overview } from "./overview.js";
import { html, number } from "./parts.js";
import { connect, facts, isLive, listen, need, set, state } from "./state.js";

const SCREENS = ["overview", "divergences", "quarantine", "history", "feed", "charts", "backups"];

function Freshness() {
  const { age, connected } = state;
  const text = !connected || !isLive() ? `not live${age === null ? "" : `, ${age} s old`}` : age < 3 ? "live" : `${age} s old`;
  return html`<span class="live ${text === "live" ? "is" : ""}">${text}</span>`;
}

const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches && "dark")) === "dark";
function turn() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("pend-theme", theme);
  } catch {}
  set();
}

function Frame({ s, children }) {
  const details = facts().details;
  const counts = { divergences: details?.divergences, quarantine: details?.waiting };
  const roles = s.actor?.roles?.join(", ");
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="band ${s.band}"><strong class="env" title=${s.environment}>${s.environment}</strong><${Freshness} />
      <span class="me">${s.actor?.name}${roles ? ` (${roles})` : ""}</span>
      ${s.read_only && html`<span class="badge">read-only</span>`}
      ${state.modules.work && html`<${state.modules.work.Logout} />`}
      ${/^https?:/.test(s.runbook) && html`<a href=${s.runbook} target="_blank" rel="noreferrer">Runbook</a>`}
      <button type="button" class="theme" onClick=${turn} aria-label=${isDark() ? "light colours" : "dark colours"}>◐</button></header>
    <nav aria-label="Screens">${SCREENS.map((name) => html`<a href="#/${name}" aria-current=${state.route.name === name ? "page" : null}>${name}${counts[name] ? html` <b>${number(counts[name])}</b>` : ""}</a>`)}</nav>
    ${!isLive() && html`<p class="old">This page is not live. It shows what was known ${state.age ?? 0} seconds ago.</p>`}
    <main id="main" tabindex="-1" class=${isLive() ? "" : "stale"}>${children}</main>`;
}

const main = () => document.getElementById("main");
function skip(event) {
  event.preventDefault();
  main().focus();
}

function App() {
  const { snapshot: s, modules, dialog, login, route, problem } = state;
  if (login !== null) return modules.login && html`<${modules.login.Login} />`;
  if (!s) return html`<main><p class="empty">${problem || "Looking at the environment."}</p></main>`;
  const Screen = route.name === "overview" ? Overview : modules[route.name]?.Screen;
  return html`<${Frame} s=${s}>${Screen && html`<${Screen} s=${s} />`}<//>${dialog && html`<${modules.actions.Dialog} />`}`;
}

const root = document.body.appendChild(document.createElement("div"));
let shown = location.hash;
listen(() => {
  const { route, snapshot: s, login } = state;
  if (!SCREENS.includes(route.name)) route.name = "overview";
  const name = login !== null ? "login" : route.name === "overview" ? "work" : route.name;
  // Without the server it fails, and is tried again at the next change.
  if (s || login !== null) need(name).then((module) => module.refresh?.(), () => {});
  render(html`<${App} />`, root);
  if (s) document.title = `${s.verdict.level === "ok" ? "" : `${s.verdict.level}: `}${s.environment} – pend_storage`;
  if (location.hash === shown) return;
  shown = location.hash;
  scrollTo(0, 0);
  main()?.focus({ preventScroll: true });
});
connect();
