// The list of phones: a row each, made once and changed in place.

import {byId, count, degrees, make, mark, percent, rate, say, time} from "./dom.js";
import {groups, reasonOf} from "./fleet.js";
import {Spark} from "./spark.js";

const settled = 3000;  // ms between two changes of the order
const natural = new Intl.Collator("en", {numeric: true, sensitivity: "base"});
const rank = {down: 0, wary: 1, out: 2, healthy: 3};
const least = (value) => value ?? -Infinity;
const most = (value) => value ?? Infinity;

// What the columns show; `before` says which of two phones stands first when sorted by it.
const columns = [
  {key: "name", words: "Phone", before: (a, b) => natural.compare(a.name, b.name)},
  {key: "state", words: "State", before: (a, b) => rank[a.condition.group] - rank[b.condition.group]},
  {key: "breaker", words: "Breaker", before: (a, b) => a.breaker.localeCompare(b.breaker) * -1},
  {key: "running", words: "Running", before: (a, b) => b.inflight - a.inflight},
  {key: "tokens", words: "Tokens/s", before: (a, b) => least(b.tokens_per_s) - least(a.tokens_per_s)},
  {key: "first", words: "First token", before: (a, b) => most(a.first_token_ms) - most(b.first_token_ms)},
  {key: "warmth", words: "Temp.", before: (a, b) => least(b.temperature) - least(a.temperature)},
  {key: "battery", words: "Battery", before: (a, b) => most(a.battery) - most(b.battery)},
];

/** What the phone has shown it can do; how much of its best that is, where it is less. */
function learnedOf(p) {
  if (p.learned_tokens_per_s === null || p.learned_tokens_per_s === undefined) return "";
  const share = p.slowdown < 0.9 ? `, ${percent(100 * p.slowdown)}` : "";
  return `can ${rate(p.learned_tokens_per_s)}${share}`;
}

class Row {
  constructor(phone, open) {
    this.phone = phone;
    this.button = make("button", "open");
    this.button.type = "button";
    this.button.addEventListener("click", (event) => {
      event.stopPropagation();
      open(phone.name);
    });
    this.under = make("span", "under");
    this.words = make("span", "condition");
    this.reason = make("span", "under");
    this.breaker = make("span", "word");
    this.running = make("span", "number");
    this.pips = make("span", "pips");
    this.pips.setAttribute("aria-hidden", "true");
    this.tokens = make("span", "number");
    this.spark = new Spark();
    this.learned = make("span", "under");
    this.first = make("span", "number");
    this.warmth = make("span", "number");
    this.level = make("span");
    this.bolt = make("span", "bolt");
    this.bolt.setAttribute("role", "img");
    this.bolt.setAttribute("aria-label", "charging");
    this.battery = make("span", "number", this.bolt, this.level);
    const parts = {
      name: [this.button, this.under], state: [this.words, this.reason], breaker: [this.breaker],
      running: [this.running, this.pips], tokens: [this.tokens, this.spark.element, this.learned], first: [this.first],
      warmth: [this.warmth], battery: [this.battery],
    };
    this.element = make("tr");
    this.element.setAttribute("role", "row");
    this.element.dataset.phone = phone.name;
    for (const {key, words} of columns) {
      const cell = make(key === "name" ? "th" : "td", `cell ${key}`, ...parts[key]);
      cell.setAttribute("role", key === "name" ? "rowheader" : "cell");
      cell.dataset.words = words;
      this.element.append(cell);
    }
    this.element.addEventListener("click", () => {
      if (!String(getSelection())) open(phone.name);
    });
    this.update();
  }

  update() {
    const p = this.phone;
    say(this.button, p.name);
    say(this.under, [p.model || "no model known", p.engine].join(" · "));
    mark(this.under, "title", this.under.textContent);
    mark(this.element, "data-group", p.condition.group);
    say(this.words, p.condition.words);
    say(this.reason, p.condition.group === "healthy" ? "" : reasonOf(p));
    mark(this.reason, "title", this.reason.textContent);
    say(this.breaker, p.breaker);
    mark(this.breaker, "data-breaker", p.breaker);
    say(this.running, `${count(p.inflight)} of ${count(p.permits)}`);
    this._pips(p);
    say(this.tokens, rate(p.tokens_per_s));
    say(this.learned, learnedOf(p));
    this.learned.classList.toggle("hot", p.slowdown !== null && p.slowdown < 0.7);
    say(this.first, time(p.first_token_ms));
    say(this.warmth, degrees(p.temperature));
    this.warmth.classList.toggle("hot", p.temperature >= 40);
    say(this.level, percent(p.battery));
    this.bolt.hidden = !p.charging;
    this.draw();
  }

  draw() {
    this.spark.draw(this.phone.history);
  }

  /** A dot for each permit, as long as they can be told apart. */
  _pips(p) {
    const all = p.permits <= 8 ? p.permits : 0;
    while (this.pips.childElementCount > all) this.pips.lastChild.remove();
    while (this.pips.childElementCount < all) this.pips.append(make("i"));
    [...this.pips.children].forEach((pip, i) => pip.classList.toggle("taken", i < p.inflight));
  }

  matches(group, words) {
    const p = this.phone;
    if (group && p.condition.group !== group) return false;
    return words.every((word) => `${p.name} ${p.model} ${p.address} ${p.engine} ${p.condition.words}`.toLowerCase().includes(word));
  }
}

export class Phones {
  constructor(open) {
    this._open = open;
    this._rows = new Map();
    this._body = byId("rows");
    this._sorted = {key: "name", at: 0};
    this._group = "";
    this._words = [];
    this._later = null;
    this._heads();
    this._filters();
  }

  /** Rows of phones that are new come, of those that are gone go, and the touched ones are written anew. */
  update(fleet, touched) {
    this._fleet = fleet;
    let other = false;
    for (const [name, row] of this._rows) {
      if (fleet.phones.has(name)) continue;
      row.element.remove();
      this._rows.delete(name);
    }
    const fresh = document.createDocumentFragment();
    for (const name of touched) {
      const phone = fleet.phones.get(name);
      const row = this._rows.get(name);
      if (!phone) continue;
      if (row) {
        row.phone = phone;
        row.update();
      } else {
        const made = new Row(phone, this._open);
        this._rows.set(name, made);
        fresh.append(made.element);
        other = true;
      }
    }
    this._body.append(fresh);
    this._counts(fleet);
    this._show();
    this._order(other);
  }

  draw(names) {
    for (const name of names) this._rows.get(name)?.draw();
  }

  // ---- which

  _filters() {
    const radio = (key, words, checked) => {
      const input = make("input");
      Object.assign(input, {type: "radio", name: "group", value: key, checked});
      const number = make("span", "many", "0");
      const label = make("label", `chip ${key || "all"}`, input, make("span", "", words), " ", number);
      byId("groups").append(label);
      return number;
    };
    this._many = new Map([["", radio("", "All", true)]]);
    for (const {key, words} of groups) this._many.set(key, radio(key, words, false));
    byId("groups").addEventListener("change", (event) => {
      this._group = event.target.value;
      this._show();
    });
    byId("find").addEventListener("input", (event) => {
      this._words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      this._show();
    });
  }

  _counts(fleet) {
    const counts = fleet.counts();
    say(this._many.get(""), String(fleet.phones.size));
    for (const {key} of groups) say(this._many.get(key), String(counts[key]));
  }

  _show() {
    let shown = 0;
    for (const row of this._rows.values()) {
      const hidden = !row.matches(this._group, this._words);
      if (row.element.hidden !== hidden) row.element.hidden = hidden;
      shown += hidden ? 0 : 1;
    }
    byId("empty").hidden = shown > 0;
    if (shown === 0) {
      say(byId("empty"), this._rows.size > 0 ? "No phone is like that."
        : "There are no phones yet. Name them in phones.json, or let them join.");
    }
  }

  // ---- in which order

  _heads() {
    for (const {key, words} of columns) {
      const button = make("button", "", words);
      button.type = "button";
      button.addEventListener("click", () => this._sortBy(key));
      const head = make("th", `cell ${key}`, button);
      head.setAttribute("role", "columnheader");
      head.dataset.key = key;
      byId("columns").append(head);
      const choice = make("option", "", words);
      choice.value = key;
      byId("sort").append(choice);
    }
    byId("sort").addEventListener("change", (event) => this._sortBy(event.target.value));
    this._markHeads();
  }

  _markHeads() {
    byId("sort").value = this._sorted.key;
    for (const head of byId("columns").children) {
      mark(head, "aria-sort", head.dataset.key === this._sorted.key ? "ascending" : "none");
    }
  }

  _sortBy(key) {
    this._sorted.key = key;
    this._markHeads();
    this._order(true);
  }

  /** Rows move at most once in some seconds, and never under the pointer or the focus, so that nobody clicks on the
   * wrong one. */
  _order(now) {
    const left = this._sorted.at + settled - performance.now();
    const inUse = this._body.matches(":hover") || this._body.contains(document.activeElement);
    if (!now && (left > 0 || inUse)) {
      this._later ??= setTimeout(() => {
        this._later = null;
        this._order(false);
      }, Math.max(left, 1000));
      return;
    }
    this._sorted.at = performance.now();
    const {before} = columns.find(({key}) => key === this._sorted.key);
    const wanted = [...this._rows.values()].sort(
      (a, b) => before(a.phone, b.phone) || natural.compare(a.phone.name, b.phone.name));
    // Only those that stand wrong are moved.
    let place = this._body.firstElementChild;
    for (const {element} of wanted) {
      if (element === place) place = place.nextElementSibling;
      else this._body.insertBefore(element, place);
    }
  }
}
