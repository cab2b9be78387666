// The page: the event stream in, the parts of the page out, once a frame.

import {Details} from "./details.js";
import {byId, mark, say} from "./dom.js";
import {Feed} from "./feed.js";
import {Fleet} from "./fleet.js";
import {Glance} from "./glance.js";
import {setUpKeys} from "./keys.js";
import {Lately} from "./lately.js";
import {Phones} from "./phones.js";
import {Prompt} from "./prompt.js";

const fleet = new Fleet();
const glance = new Glance();
const details = new Details();
const phones = new Phones((name) => details.open(fleet, name));
const prompt = new Prompt();
const lately = new Lately();

// What has come since the page was last drawn. A page in the background draws nothing, and all of it at once later.
const pending = {touched: new Set(), moved: new Set(), drawn: true, models: false};

function draw() {
  pending.drawn = true;
  glance.update(fleet);
  phones.update(fleet, pending.touched);
  phones.draw(pending.moved);
  if (pending.models) prompt.update(fleet.models());
  details.update(fleet);
  pending.touched.clear();
  pending.moved.clear();
  pending.models = false;
}

function soon() {
  if (!pending.drawn) return;
  pending.drawn = false;
  requestAnimationFrame(draw);
}

function take({touched, news}, models) {
  for (const name of touched) pending.touched.add(name);
  pending.models = pending.models || models;
  lately.tell(news);
  soon();
}

const feed = new Feed({
  event(name, said) {
    if (name === "fleet") take(fleet.take(said), true);
    else if (name === "change") take(fleet.change(said), true);
  },
  beat() {
    for (const name of fleet.beat()) pending.moved.add(name);
    soon();
  },
  state(state, words) {
    const shown = byId("connection");
    mark(shown, "data-state", state);
    say(shown.firstElementChild, words);
    byId("main").classList.toggle("stale", state !== "live");
  },
});

setUpKeys();
addEventListener("pagehide", () => feed.stop());
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
feed.run();
