// A line of one number over the last minute.

const namespace = "http://www.w3.org/2000/svg";
const kept = 60;  // seconds
const high = 20;

/** Where the line runs; `top` is the least that fills its height, so that little does not look like much. */
function paths(values, top) {
  const most = Math.max(top, ...values);
  const step = 100 / (kept - 1);
  const points = values.map((value, i) => {
    const x = (i + kept - values.length) * step;
    return `${x.toFixed(1)} ${(high - 1 - (value / most) * (high - 2)).toFixed(1)}`;
  });
  const line = `M${points.join("L")}`;
  const first = ((kept - values.length) * step).toFixed(1);
  return {line, area: `${line}L100 ${high}L${first} ${high}Z`};
}

export class Spark {
  constructor(className = "") {
    const element = (name, cls) => {
      const made = document.createElementNS(namespace, name);
      made.setAttribute("class", cls);
      return made;
    };
    this.element = element("svg", `spark ${className}`);
    this.element.setAttribute("viewBox", `0 0 100 ${high}`);
    this.element.setAttribute("preserveAspectRatio", "none");
    this.element.setAttribute("aria-hidden", "true");
    this._area = element("path", "area");
    this._line = element("path", "line");
    this._line.setAttribute("vector-effect", "non-scaling-stroke");
    this.element.append(this._area, this._line);
    this._drawn = "";
  }

  draw(values, top = 10) {
    const {line, area} = values.length > 1 ? paths(values, top) : {line: "", area: ""};
    if (line === this._drawn) return;
    this._drawn = line;
    this._line.setAttribute("d", line);
    this._area.setAttribute("d", area);
  }
}

/** The newest of them behind the others. */
export function push(values, value) {
  values.push(value);
  if (values.length > kept) values.splice(0, values.length - kept);
}
