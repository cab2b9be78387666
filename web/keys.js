// The API key, which lives in this tab only, and requests that carry it.

import {byId, say} from "./dom.js";

const slot = "pocketfleet-key";
const changed = new EventTarget();
let asking = null;

export const key = () => sessionStorage.getItem(slot) ?? "";
export const onKey = (listener, options) => changed.addEventListener("key", listener, options);

function keep(value) {
  if (value) sessionStorage.setItem(slot, value);
  else sessionStorage.removeItem(slot);
  show();
  changed.dispatchEvent(new Event("key"));
}

function show() {
  say(byId("key-button"), key() ? "Key: set" : "Key");
}

/** Asks for a key; true if one was given. Who asks meanwhile waits for the same answer. */
export function askForKey(why) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    say(byId("key-why"), why);
    byId("key-forget").hidden = !key();
    byId("key-field").value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "given"), {once: true});
    dialog.showModal();
    byId("key-field").focus();
  }).finally(() => (asking = null));
  return asking;
}

/** Why a request was refused, as the gateway says it. */
export async function refusalOf(response) {
  try {
    const said = await response.json();
    const text = typeof said.error === "string" ? said.error : said.error?.message;
    if (text) return text;
  } catch {
    // not JSON: the status has to do
  }
  return `the gateway says ${response.status}`;
}

/** fetch() with the key. Where the gateway wants another one it is asked for, once. */
export async function request(path, options = {}) {
  for (let again = false; ; again = true) {
    const headers = {...options.headers};
    if (key()) headers.Authorization = `Bearer ${key()}`;
    const response = await fetch(path, {cache: "no-store", credentials: "omit", ...options, headers});
    if (again || (response.status !== 401 && response.status !== 403)) return response;
    const why = await refusalOf(response.clone());
    if (!(await askForKey(sentence(why)))) return response;
  }
}

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

export function setUpKeys() {
  const dialog = byId("key-dialog");
  byId("key-button").addEventListener("click", () => askForKey("It goes with all that this page asks the gateway."));
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const value = byId("key-field").value.trim();
    byId("key-field").value = "";
    if (value) keep(value);
    dialog.close(value ? "given" : "");
  });
  byId("key-cancel").addEventListener("click", () => dialog.close(""));
  byId("key-forget").addEventListener("click", () => {
    keep("");
    dialog.close("");
  });
  show();
}
