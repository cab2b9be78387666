// Small things with which the other files make and change the page. Text goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with its class and its children: elements, or text. */
export function make(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Writes only what is not there already: what stays the same costs no layout. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// ---- numbers, as people read them; a dash for what is not known

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const tenths = new Intl.NumberFormat("en", {minimumFractionDigits: 1, maximumFractionDigits: 1});
const known = (value) => value !== null && value !== undefined;

export const count = (value) => (known(value) ? whole.format(value) : "–");
export const rate = (value) => (known(value) ? (value >= 100 ? whole : tenths).format(value) : "–");
export const percent = (value) => (known(value) ? `${whole.format(value)} %` : "–");
export const degrees = (value) => (known(value) ? `${tenths.format(value)} °C` : "–");
export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

/** Milliseconds, shown as such up to a second. */
export function time(value) {
  if (!known(value)) return "–";
  return value < 1000 ? `${whole.format(value)} ms` : `${tenths.format(value / 1000)} s`;
}
