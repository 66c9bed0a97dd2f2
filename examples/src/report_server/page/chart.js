// A chart of the last minute: lines over time, what load ran, and a reading under the pointer.

const SHOWN = 60; // seconds
const WAYS = { shared: "with", plain: "without", session: "Set\u2011Cookie", cached: "cache" };

class Chart {
  // `lines`: the fields of a point, each with its name, which is its class, too.
  // `zero`: whether a logarithmic axis has one.
  constructor(element, { lines, area, zero, least, unit, reading, nothing }) {
    Object.assign(this, { element, lines, area, zero, least, unit, reading, nothing });
    this.points = [];
    this.log = true;
    this.cross = null; // how many points before the last one
    this.svg = element.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
    this.box = element.appendChild(document.createElement("div"));
    this.box.className = "reading";
    element.addEventListener("pointermove", (event) => this.point(event.offsetX));
    element.addEventListener("pointerleave", () => this.read(null));
    element.addEventListener("blur", () => this.read(null));
    element.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.read((this.cross ?? -1) + step);
    });
    new ResizeObserver(() => this.draw()).observe(element);
  }

  show(points) {
    this.points = points;
    this.draw();
  }

  // Reads the point that is nearest to the pointer.
  point(x) {
    const away = this.points.map((point) => Math.abs(this.x(point) - x));
    this.read(away.length ? away.length - 1 - away.indexOf(Math.min(...away)) : null);
  }

  read(cross) {
    const last = this.points.length - 1;
    this.cross = cross === null || last < 0 ? null : Math.max(0, Math.min(last, cross));
    this.draw();
  }

  // Seconds before the last point.
  ago(point) {
    return this.points.at(-1).at_s - point.at_s;
  }

  x(point) {
    return this.back(this.ago(point));
  }

  back(ago) {
    return this.right - (ago / SHOWN) * (this.right - this.left);
  }

  y(value) {
    const { floor, top, log, zero } = this;
    const place = (value) => {
      if (!log) return value;
      // An axis with a zero is linear up to one, which takes as much room as a decade.
      if (zero) return value < 1 ? value : 1 + Math.log10(value);
      return Math.log10(Math.max(value, floor) / floor);
    };
    return this.bottom - (place(value) / place(top)) * (this.bottom - this.high);
  }

  // The highest value of the axis, and where its marks are.
  scale() {
    const values = this.points.flatMap((point) => this.lines.map(([field]) => point[field] ?? 0));
    const most = Math.max(this.least, ...values);
    if (this.log) {
      const decades = (low, high) =>
        Array.from({ length: high - low + 1 }, (_, decade) => 10 ** (low + decade));
      const high = Math.ceil(Math.log10(most));
      const lowest = Math.min(most / 100, ...values.filter((value) => value > 0));
      const low = this.zero ? 0 : Math.floor(Math.log10(lowest));
      [this.floor, this.top] = [10 ** low, 10 ** high];
      return [...(this.zero ? [0] : []), ...decades(low, high)];
    }
    const step = [1, 2, 2.5, 5, 10].map((n) => n * 10 ** Math.floor(Math.log10(most / 4)))
      .find((step) => step * 4 >= most);
    this.top = step * 4;
    return [0, 1, 2, 3, 4].map((n) => n * step);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width) return;
    const marks = this.scale();
    [this.left, this.right, this.high, this.bottom] = [60, width - 1, 8, height - 42];
    this.svg.innerHTML = [
      ...marks.map((mark) => this.mark(mark)),
      ...(width < 320 ? [60, 30, 0] : [60, 45, 30, 15, 0]).map((ago) => this.time(ago)),
      ...this.loads(),
      ...this.empty() ? [this.message()] : this.drawn(),
      this.crossed(),
    ].join("");
    const [before, empty] = [this.cross ?? 0, this.empty()];
    this.element.setAttribute("aria-label",
      empty ? this.nothing : this.told(this.points.at(-1 - before)));
  }

  told(point) {
    return this.reading(point, this.ago(point));
  }

  empty() {
    return !this.points.some((point) => this.lines.some(([field]) => point[field]));
  }

  drawn() {
    const lines = this.lines.map(([field, name]) => this.line(field, name));
    return this.area ? [this.between(...this.area), ...lines] : lines;
  }

  message() {
    const [x, y] = [(this.left + this.right) / 2, (this.high + this.bottom) / 2];
    return `<text class="nothing" x="${x}" y="${y}" text-anchor="middle">${this.nothing}</text>`;
  }

  mark(value) {
    const y = this.y(value).toFixed(1);
    return `<path class="grid" d="M${this.left} ${y}H${this.right}"/>
      <text x="${this.left - 8}" y="${y}" dy="0.35em" text-anchor="end">${this.unit(value)}</text>`;
  }

  time(ago) {
    const x = this.back(ago);
    const anchor = { 60: "start", 0: "end" }[ago] ?? "middle";
    const label = ago ? `−${ago} s` : "now";
    return `<text x="${x}" y="${this.bottom + 37}" text-anchor="${anchor}">${label}</text>`;
  }

  // A strip under the plot: which load ran when.
  loads() {
    const runs = [];
    for (const point of this.points) {
      const run = runs.at(-1);
      if (run?.way === point.way) run.to = point;
      else runs.push({ way: point.way, from: point, to: point });
    }
    return runs.filter(({ way }) => way).map(({ way, from, to }) => {
      const [x, end] = [Math.max(this.left, this.x(from)), this.x(to)];
      const label = end - x > WAYS[way].length * 7
        ? `<text x="${(x + end) / 2}" y="${this.bottom + 19}" text-anchor="middle">${WAYS[way]}</text>`
        : "";
      return `<path class="change" d="M${x} ${this.high}V${this.bottom}"/>
        <rect class="${way}" x="${x}" y="${this.bottom + 3}" width="${Math.max(1, end - x)}" height="4"/>
        ${label}`;
    });
  }

  at(point, field) {
    return `${this.x(point).toFixed(1)} ${this.y(point[field]).toFixed(1)}`;
  }

  line(field, name) {
    let [path, gap] = ["", true];
    for (const point of this.points) {
      const none = point[field] === null;
      if (!none) path += `${gap ? "M" : "L"}${this.at(point, field)}`;
      gap = none;
    }
    return `<path class="under ${name}" d="${path}"/><path class="${name}" d="${path}"/>`;
  }

  between(above, below, name) {
    if (!this.points.length) return "";
    const there = this.points.map((point) => this.at(point, above));
    const back = this.points.map((point) => this.at(point, below)).reverse();
    return `<path class="${name}" d="M${[...there, ...back].join("L")}Z"/>`;
  }

  crossed() {
    const point = this.cross === null ? null : this.points.at(-1 - this.cross);
    this.box.hidden = !point;
    if (!point) return "";
    const x = this.x(point);
    this.box.textContent = this.told(point);
    const beside = x > this.right / 2 ? x - 10 - this.box.offsetWidth : x + 10;
    this.box.style.left = `${Math.max(0, beside)}px`;
    return `<path class="cross" d="M${x} ${this.high}V${this.bottom}"/>`;
  }
}
