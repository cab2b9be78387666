// The numbers of the whole fleet.

import {byId, count, make, percent, plural, rate, say} from "./dom.js";
import {groups} from "./fleet.js";
import {Spark} from "./spark.js";

const names = {wary: ["needs attention", "need attention"], down: ["down", "down"], out: ["drained", "drained"]};

export class Glance {
  constructor() {
    this._plot = new Spark();
    byId("tokens-plot").append(this._plot.element);
    this._parts = new Map(groups.map(({key}) => [key, make("i", `part ${key}`)]));
    byId("states").append(...this._parts.values());
  }

  update(fleet) {
    this._phones(fleet);
    const g = fleet.gateway;
    say(byId("tokens"), rate(g.tokens_per_s));
    this._plot.draw(fleet.tokens);
    say(byId("running"), count(g.inflight));
    say(byId("of-permits"), `of ${count(g.permits)}`);
    fill(byId("running-bar"), g.inflight, g.permits);
    say(byId("waiting"), count(g.waiting));
    fill(byId("waiting-bar"), g.waiting, g.queue);
    say(byId("queue"), g.queue ? `in a queue for ${count(g.queue)}` : "in the queue");
    say(byId("requests"), count(g.requests));
    say(byId("failed"), g.failed ? `${count(g.failed)} failed` : "none failed");
    byId("failed").classList.toggle("bad", g.failed > 0);
    this._cache(g.cache);
    say(byId("about"), about(g));
  }

  _phones(fleet) {
    const counts = fleet.counts();
    const all = fleet.phones.size;
    say(byId("healthy"), count(counts.healthy));
    say(byId("of-phones"), `of ${count(all)} healthy`);
    for (const [key, part] of this._parts) {
      part.hidden = counts[key] === 0;
      part.style.flexGrow = String(counts[key]);
    }
    const others = Object.keys(names).filter((key) => counts[key] > 0)
      .map((key) => `${count(counts[key])} ${names[key][counts[key] === 1 ? 0 : 1]}`);
    say(byId("states-note"), all === 0 ? "none are named yet" : others.join(", ") || "all are well");
    document.title = all === 0 ? "Pocketfleet" : `${counts.healthy}/${all} · Pocketfleet`;
  }

  /** Of the requests that could have come from the cache, those that did, or that shared somebody else's answer. */
  _cache({hits, misses, joined, entries}) {
    const all = hits + misses + joined;
    say(byId("cache"), percent(all === 0 ? null : (100 * (hits + joined)) / all));
    say(byId("cache-note"), all === 0 ? "nothing asked yet" : plural(entries, "answer kept", "answers kept"));
  }
}

function fill(bar, part, all) {
  bar.style.width = `${all > 0 ? Math.min(100, (100 * part) / all) : 0}%`;
}

function about(gateway) {
  const since = new Date(gateway.started);
  const text = Number.isNaN(since.getTime()) ? "" : `, up since ${since.toLocaleString("en-GB", {dateStyle: "medium", timeStyle: "short"})}`;
  return `Pocketfleet ${gateway.version}${text}`;
}
