// The event stream: read, watched for silence, and taken up again for as long as the page is open.

import {askForKey, key, onKey, refusalOf} from "./keys.js";

const silence = 5000;  // ms; the gateway says something each second
const pauses = [300, 1000, 2000, 4000];

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Events out of the text of a stream, which comes in any pieces. */
export class EventReader {
  constructor() {
    this._text = "";
  }

  /** What has come whole with this piece; a comment has no name. */
  take(piece) {
    this._text += piece;
    const parts = this._text.split("\n\n");
    this._text = parts.pop();
    return parts.map((part) => {
      const event = {name: "", data: ""};
      for (const line of part.split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        else if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      return event;
    });
  }
}

export class Feed {
  /** `on`: event(name, object), beat() for each sign of life, state(name, words). */
  constructor(on) {
    this._on = on;
    this._failed = 0;  // times in a row
    this._stopped = false;
    this._control = null;
    onKey(() => this._control?.abort());
  }

  async run() {
    while (!this._stopped) {
      try {
        await this._once();
      } catch {
        // lost, silent, or refused: all the same from here
      }
      if (this._stopped) return;
      const pause = pauses[Math.min(this._failed++, pauses.length - 1)];
      await wait(pause * (0.75 + Math.random() / 2));
    }
  }

  stop() {
    this._stopped = true;
    this._control?.abort();
  }

  /** One stream, to its end. */
  async _once() {
    this._control = new AbortController();
    let timer = null;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this._control.abort(), silence);
    };
    try {
      alive();
      const headers = {Accept: "text/event-stream"};
      if (key()) headers.Authorization = `Bearer ${key()}`;
      const response = await fetch("events", {headers, cache: "no-store", credentials: "omit",
                                              signal: this._control.signal});
      if (!response.ok) {
        clearTimeout(timer);
        return await this._refused(response);
      }
      await this._read(response.body.getReader(), alive);
    } finally {
      clearTimeout(timer);
      this._control.abort();
      if (!this._stopped && !this._said) this._on.state("lost", "Connection lost, trying again");
      this._said = false;
    }
  }

  async _read(reader, alive) {
    const decoder = new TextDecoder();
    const events = new EventReader();
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      alive();
      for (const event of events.take(decoder.decode(value, {stream: true}))) {
        if (event.name) this._on.event(event.name, JSON.parse(event.data));
        if (event.name === "fleet") {
          this._failed = 0;
          this._on.state("live", "Live");
        } else {
          this._on.beat();
        }
      }
    }
  }

  async _refused(response) {
    const why = await refusalOf(response);
    this._said = true;
    if (response.status === 401 || response.status === 403) {
      this._on.state("locked", "A key is needed");
      const given = await askForKey("This gateway shows its fleet to those who have a key.");
      if (!given) await new Promise((resolve) => onKey(resolve, {once: true}));
      this._failed = 0;
    } else {
      this._on.state("lost", `No events: ${why}`);
    }
  }
}
