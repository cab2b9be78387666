// The fleet as the page knows it: what the event stream has said, put together.

import {push} from "./spark.js";

/** What people see of a phone's condition: a group, which has a colour and a filter, and words. */
export function conditionOf(p) {
  if (p.draining) return {group: "out", words: "Leaving"};
  if (p.drained) return {group: "out", words: p.inflight > 0 ? "Draining" : "Drained"};
  if (p.state === "down") return {group: "down", words: "Down"};
  if (p.breaker === "open") return {group: "down", words: "Failing"};
  if (p.state === "loading") return {group: "wary", words: "Loading"};
  if (p.state === "unknown") return {group: "wary", words: "Checking"};
  if (p.resting && !p.healthy) return {group: "wary", words: "Resting"};
  if (p.suspect) return {group: "wary", words: "Suspect"};
  if (p.resting || p.quiet) return {group: "wary", words: "Spared"};
  if (p.breaker === "half-open") return {group: "wary", words: "On trial"};
  return {group: "healthy", words: "Healthy"};
}

export const groups = [
  {key: "healthy", words: "Healthy"},
  {key: "wary", words: "Attention"},
  {key: "down", words: "Down"},
  {key: "out", words: "Drained"},
];

/** Why, in words for people; empty where all is well. */
export function reasonOf(p) {
  if (p.reason) return p.reason;
  if (p.resting) return p.resting;
  if (p.drained) return "taken out of service by hand";
  if (p.suspect) return "has just failed; asked only if there is no other";
  if (p.quiet) return "its heartbeats have stopped; asked only if there is no other";
  if (p.breaker === "half-open") return "has failed often; gets one request at a time";
  return "";
}

export class Fleet {
  constructor() {
    this.gateway = {};
    this.phones = new Map();  // by name, in the file's order
    this.tokens = [];         // of all phones, by the second
    this.at = null;
  }

  /** A whole picture. What happened to the phones meanwhile is told as for a change. */
  take(all) {
    const before = this.phones;
    this.gateway = all.gateway;
    this.at = all.at;
    this.phones = new Map();
    for (const said of all.phones) {
      const {tokens, ...phone} = said;
      phone.history = tokens ?? [];
      phone.condition = conditionOf(phone);
      this.phones.set(phone.name, phone);
    }
    this.tokens = this._sum();
    const news = this._news(before);
    return {touched: new Set(this.phones.keys()), news: before.size ? news : [], whole: true};
  }

  /** What has changed since the last one. */
  change(some) {
    Object.assign(this.gateway, some.gateway);
    if (some.at) this.at = some.at;
    const news = [];
    const touched = new Set();
    for (const said of some.phones ?? []) {
      const known = this.phones.get(said.name);
      const phone = known ?? {history: []};
      const was = phone.condition;
      Object.assign(phone, said);
      phone.condition = conditionOf(phone);
      this.phones.set(phone.name, phone);
      touched.add(phone.name);
      if (!known) news.push({name: phone.name, words: "has joined", group: phone.condition.group});
      else if (was.words !== phone.condition.words) news.push(told(phone));
    }
    for (const name of some.gone ?? []) {
      if (this.phones.delete(name)) news.push({name, words: "is gone", group: "out"});
    }
    return {touched, news, whole: Boolean(some.gone)};
  }

  /** A second has passed. Names of phones whose line has moved. */
  beat() {
    const moved = [];
    for (const p of this.phones.values()) {
      const value = p.tokens_per_s ?? 0;
      const still = value === 0 && p.history.every((v) => v === 0);
      if (still) continue;
      push(p.history, value);
      moved.push(p.name);
    }
    push(this.tokens, this.gateway.tokens_per_s ?? 0);
    return moved;
  }

  /** How many phones there are in each group. */
  counts() {
    const out = {healthy: 0, wary: 0, down: 0, out: 0};
    for (const p of this.phones.values()) ++out[p.condition.group];
    return out;
  }

  /** Names of models that some phone has, in order. */
  models() {
    const names = new Set();
    for (const p of this.phones.values()) {
      for (const name of p.models ?? []) names.add(name);
    }
    return [...names].sort();
  }

  _sum() {
    const out = new Array(60).fill(0);
    for (const p of this.phones.values()) p.history.forEach((v, i) => (out[i + 60 - p.history.length] += v));
    return out;
  }

  _news(before) {
    const news = [];
    for (const p of this.phones.values()) {
      const was = before.get(p.name);
      if (!was) news.push({name: p.name, words: "has joined", group: p.condition.group});
      else if (was.condition.words !== p.condition.words) news.push(told(p));
    }
    for (const name of before.keys()) {
      if (!this.phones.has(name)) news.push({name, words: "is gone", group: "out"});
    }
    return news;
  }
}

function told(p) {
  const reason = reasonOf(p);
  const words = p.condition.words.toLowerCase();
  return {name: p.name, words: reason && p.condition.group !== "healthy" ? `${words}: ${reason}` : words,
          group: p.condition.group};
}
