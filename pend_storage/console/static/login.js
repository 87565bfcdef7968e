// Log in with the token of the console.
import { html } from "./parts.js";
import { call, connect, set, state } from "./state.js";

async function submit(event) {
  event.preventDefault();
  const token = String(new FormData(event.target).get("token"));
  const { status } = await call("api/v1/session", { token });
  if (status >= 200 && status < 300) {
    set({ login: null });
    connect();
  }
}

export const Login = () => html`<main class="login"><form class="card" onSubmit=${submit}><h1>pend_storage console</h1>
  <p role="status">${state.login}</p><label class="field">Token<input name="token" type="password" autocomplete="current-password" required autofocus /></label>
  <div class="foot"><button class="btn main">Log in</button></div></form></main>`;
