// One phone, with all that is known of it, and the switch that takes it out of service.

import {byId, count, degrees, make, mark, percent, rate, say, time} from "./dom.js";
import {reasonOf} from "./fleet.js";
import {refusalOf, request} from "./keys.js";
import {Spark} from "./spark.js";

const list = (names) => (names?.length ? names.join(", ") : "–");

function memory(p) {
  const gigabytes = (kb) => (kb / 1048576).toFixed(1);
  if (p.memory_available_kb === null) return "–";
  const all = p.memory_total_kb === null ? "" : ` of ${gigabytes(p.memory_total_kb)}`;
  return `${gigabytes(p.memory_available_kb)}${all} GiB free`;
}

function battery(p) {
  if (p.battery === null) return "–";
  return p.charging === null ? percent(p.battery) : `${percent(p.battery)}, ${p.charging ? "charging" : "not charging"}`;
}

/** One of a group's: "galaxy: up, 41 °C, 80 %". */
function member(m) {
  const known = [m.state, m.temperature === null ? null : degrees(m.temperature), m.battery === null ? null : percent(m.battery)];
  return `${m.name}: ${known.filter((v) => v !== null).join(", ") || "–"}`;
}

function slowed(p) {
  return p.slowdown < 0.9 ? `, ${percent(100 * p.slowdown)} of its best` : "";
}

/** Words, and what is told of a phone; nothing (null): the line is left out. */
const facts = [
  ["Address", (p) => p.address],
  ["Engine", (p) => p.engine],
  ["Model", (p) => p.model || "–"],
  ["Has", (p) => list(p.models)],
  ["In memory", (p) => list(p.loaded)],
  ["Running", (p) => `${count(p.inflight)} of ${count(p.permits)} permits`],
  ["Weight", (p) => count(p.weight)],
  ["Breaker", (p) => p.breaker],
  ["Tokens/s now", (p) => rate(p.tokens_per_s)],
  ["Last answer", (p) => (p.answer_tokens_per_s === null ? "–" : `${rate(p.answer_tokens_per_s)} tokens/s`)],
  ["Learned speed", (p) => (p.learned_tokens_per_s === null ? "–" : `${rate(p.learned_tokens_per_s)} tokens/s${slowed(p)}`)],
  ["Reads prompts", (p) => (p.learned_prompt_tokens_per_s === null ? "–" : `${rate(p.learned_prompt_tokens_per_s)} tokens/s`)],
  ["First token", (p) => time(p.first_token_ms)],
  ["Answers", (p) => `${count(p.answers)}, ${count(p.failures)} failed`],
  ["Members", (p) => (p.members?.length ? list(p.members.map(member)) : null)],
  ["Temperature", (p) => degrees(p.temperature)],
  ["Battery", battery],
  ["Memory", memory],
  ["Wi-Fi", (p) => (p.wifi_rssi_dbm === null ? "–" : `${count(p.wifi_rssi_dbm)} dBm`)],
];

export class Details {
  constructor() {
    this._dialog = byId("details");
    this._name = null;
    this._plot = new Spark();
    byId("details-plot").append(this._plot.element);
    this._values = facts.map(([words]) => {
      const value = make("dd");
      byId("details-facts").append(make("div", "", make("dt", "", words), value));
      return value;
    });
    byId("details-close").addEventListener("click", () => this._dialog.close());
    this._dialog.addEventListener("close", () => (this._name = null));
    this._dialog.addEventListener("click", (event) => {
      const {left} = this._dialog.getBoundingClientRect();
      if (event.target === this._dialog && event.clientX > 0 && event.clientX < left) this._dialog.close();
    });
    byId("drain").addEventListener("click", () => this._switch());
  }

  open(fleet, name) {
    this._name = name;
    say(byId("details-fault"), "");
    this.update(fleet);
    this._dialog.showModal();
  }

  update(fleet) {
    if (this._name === null) return;
    const p = fleet.phones.get(this._name);
    if (!p) {
      this._dialog.close();
      return;
    }
    this._drained = p.drained;
    say(byId("details-title"), p.name);
    mark(this._dialog, "data-group", p.condition.group);
    say(byId("details-state"), p.condition.words);
    say(byId("details-reason"), reasonOf(p));
    this._plot.draw(p.history);
    facts.forEach(([, read], i) => {
      const told = read(p);
      this._values[i].parentElement.hidden = told === null;
      say(this._values[i], told ?? "");
    });
    say(byId("drain"), p.drained ? "Put back into service" : "Drain");
    say(byId("drain-hint"), p.drained ? "It gets requests again." : "No new requests; running ones are finished.");
  }

  async _switch() {
    const what = this._drained ? "undrain" : "drain";
    const button = byId("drain");
    button.disabled = true;
    say(byId("details-fault"), "");
    try {
      const response = await request(`admin/phones/${encodeURIComponent(this._name)}/${what}`, {method: "POST"});
      if (!response.ok) say(byId("details-fault"), `Not done: ${await refusalOf(response)}.`);
    } catch {
      say(byId("details-fault"), "Not done: the gateway cannot be reached.");
    } finally {
      button.disabled = false;
      if (this._dialog.open) button.focus();
    }
  }
}
