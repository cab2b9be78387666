// A prompt to try, and its answer as it comes.

import {byId, make, plural, rate, say, time} from "./dom.js";
import {refusalOf, request} from "./keys.js";

/** What went wrong, in words for people. */
class Trouble extends Error {}

/** The objects of a stream of lines. */
async function* linesOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    text += decoder.decode(value, {stream: true});
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (line) yield JSON.parse(line);
    }
  }
}

/** What has come, put on the page once a frame; the end stays in view while the reader is there. */
class Paper {
  constructor(element) {
    this._element = element;
    this._waiting = false;
  }

  clear() {
    this._element.replaceChildren();
    this._element.hidden = false;
    this._kind = "";
    this._text = null;
    this._new = "";
  }

  write(kind, text) {
    if (kind !== this._kind) {
      this._flush();
      this._kind = kind;
      this._text = document.createTextNode("");
      this._element.append(make("p", kind, this._text));
    }
    this._new += this._text.length === 0 && !this._new ? text.trimStart() : text;
    if (this._waiting) return;
    this._waiting = true;
    requestAnimationFrame(() => {
      this._waiting = false;
      this._flush();
    });
  }

  _flush() {
    if (!this._new || !this._text) return;
    const box = this._element;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    this._text.appendData(this._new);
    this._new = "";
    if (atEnd) box.scrollTop = box.scrollHeight;
  }
}

export class Prompt {
  constructor() {
    this._field = byId("question");
    this._paper = new Paper(byId("answer"));
    this._control = null;
    this._models = "";
    byId("try").addEventListener("submit", (event) => {
      event.preventDefault();
      this._ask();
    });
    this._field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("try").requestSubmit();
    });
    byId("try").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this._stop();
    });
    byId("stop").addEventListener("click", () => this._stop());
  }

  /** The models that can be asked for; the choice stays. */
  update(models) {
    const all = models.join("\n");
    if (all === this._models) return;
    this._models = all;
    const select = byId("model");
    const chosen = select.value;
    while (select.length > 1) select.remove(1);
    for (const name of models) select.append(new Option(name, name));
    if (models.includes(chosen)) select.value = chosen;
  }

  _stop() {
    this._control?.abort();
  }

  _busy(yes) {
    byId("send").disabled = yes;
    byId("stop").disabled = !yes;
    byId("answer").setAttribute("aria-busy", String(yes));
  }

  _note(text, bad = false) {
    say(byId("answer-note"), text);
    byId("answer-note").classList.toggle("bad", bad);
  }

  async _ask() {
    if (this._control || !this._field.value.trim()) return;
    const control = new AbortController();
    this._control = control;
    const at = (id) => document.activeElement === byId(id);
    const onSend = at("send");
    const body = {prompt: this._field.value};
    if (byId("model").value) body.model = byId("model").value;
    if (byId("most").value) body.options = {num_predict: Number(byId("most").value)};
    this._busy(true);
    if (onSend) byId("stop").focus();  // a button that is switched off would lose the focus
    this._paper.clear();
    this._note("Asking");
    try {
      await this._stream(body, control.signal);
    } catch (failure) {
      if (control.signal.aborted) this._note("Stopped");
      else if (failure instanceof Trouble) this._note(failure.message, true);
      else this._note("Broken off: the connection to the gateway was lost", true);
    }
    this._control = null;
    byId("send").disabled = false;
    if (at("stop")) byId(onSend ? "send" : "question").focus();
    this._busy(false);
  }

  async _stream(body, signal) {
    const began = performance.now();
    const response = await request("ask_stream", {
      method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json"}, signal,
    });
    if (!response.ok) throw new Trouble(`Not answered: ${await refusalOf(response)}`);
    let first = null;
    for await (const line of linesOf(response.body)) {
      if (line.error) throw new Trouble(`Broken off: ${line.error}`);
      const {content, thinking} = line.message ?? {};
      if ((content || thinking) && first === null) {
        first = performance.now() - began;
        this._note("Answering");
      }
      if (thinking) this._paper.write("thinking", thinking);
      if (content) this._paper.write("content", content);
      if (line.done) return this._note(summary(line, first));
    }
    throw new Trouble("Broken off: the answer is not whole");
  }
}

/** "sim-2, 42 tokens, 8.1 tokens/s, first after 310 ms" */
function summary(last, first) {
  const notes = last.pocketfleet ?? {};
  const parts = [notes.phone ?? "", plural(last.eval_count, "token", "tokens")];
  if (notes.cached) parts.push("from the cache");
  else if (last.eval_duration) parts.push(`${rate(last.eval_count / (last.eval_duration / 1e9))} tokens/s`);
  if (first !== null) parts.push(`first after ${time(first)}`);
  if (notes.rescues) parts.push(`rescued ${plural(notes.rescues, "time", "times")}`);
  return parts.filter(Boolean).join(", ");
}
