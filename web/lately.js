// What has happened to phones while the page was open, the newest first.

import {byId, make} from "./dom.js";

const kept = 50;
const atOnce = 5;  // when many phones change together, the rest is a number

export class Lately {
  constructor() {
    this._list = byId("lately");
  }

  tell(news) {
    if (news.length === 0) return;
    byId("lately-empty").hidden = true;
    const time = new Date().toLocaleTimeString("en-GB");
    const lines = news.slice(0, atOnce).map(({name, words, group}) => line(time, group, name, words));
    if (news.length > atOnce) lines.push(line(time, "out", `${news.length - atOnce} more`, "have changed"));
    this._list.prepend(...lines);
    while (this._list.childElementCount > kept) this._list.lastChild.remove();
  }
}

function line(time, group, name, words) {
  const made = make("li", "", make("time", "", time), make("span", "", make("b", "", name), ` ${words}`));
  made.dataset.group = group;
  return made;
}
