// The page: what the events say is shown, and what is chosen is told to the server.

const $ = (id) => document.getElementById(id);
const text = (id, what) => { $(id).textContent = what; };

const ago = (s) => (s >= 0.05 ? `${tenths.format(s)} s ago` : "now");
const rates = new Chart(document.querySelector("#rates .chart"), {
  lines: [["requests_per_second", "requests"], ["executions_per_second", "executions"]],
  area: ["requests_per_second", "executions_per_second", "saved"],
  zero: true, least: 1000, unit: (rate) => `${count(rate)}/s`,
  nothing: "No requests in the last minute",
  reading: (point, s) => `${ago(s)}\n${count(point.requests_per_second)} requests per second\n`
    + `${count(point.executions_per_second)} executions per second`,
});
const latencies = new Chart(document.querySelector("#latencies .chart"), {
  lines: [["p50_ms", "p50"], ["p99_ms", "p99"]],
  zero: false, least: 1000, unit: millis,
  nothing: "No load in the last minute",
  reading: (point, s) => `${ago(s)}\nmedian ${millis(point.p50_ms)}\n`
    + `99th percentile ${millis(point.p99_ms)}`,
});

/* The load. */

const LENGTH = 60; // seconds after which the server ends a load
const form = $("load");
const button = form.querySelector("[type=submit]");
const notes = {
  shared: "Overlapping requests for the same report share one execution and get the same response.",
  plain: "Every request is executed, and waits for a database connection.",
  session: "The same layer, and every response sets a cookie. The layer sees the cookie in the response head, shares "
    + "nothing, and remembers that for the next requests.",
  cached: "A cache whose misses share one execution. A report older than one second is served stale while a task "
    + "loads it again. Requests wait only after all reports were invalidated.",
};
let running = null; // the plan that the server runs
let changed = -Infinity; // when something was chosen here that its events might not show yet

const chosen = () => ({
  way: form.elements.way.value,
  clients: $("clients").valueAsNumber,
  reports: $("reports").valueAsNumber,
});

function showChosen() {
  const plan = chosen();
  for (const id of ["clients", "reports"]) form.querySelector(`[for=${id}] + output`).value = plan[id];
  text("way-note", notes[plan.way]);
  $("invalidate").hidden = plan.way !== "cached";
}

function showRunning(plan, left) {
  if (performance.now() - changed < 1000) return;
  running = plan;
  button.textContent = plan ? `Stop (${Math.ceil(left)} s)` : "Start";
  button.classList.toggle("stop", plan !== null);
  if (!plan || form.querySelector("input[type=range]:active")) return;
  form.elements.way.value = plan.way;
  $("clients").value = plan.clients;
  $("reports").value = plan.reports;
  showChosen();
}

function tell(plan) {
  showRunning(plan, LENGTH);
  changed = performance.now();
  return ask("load", plan
    ? { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(plan) }
    : { method: "DELETE" });
}

async function ask(path, what) {
  const refused = $("refused");
  try {
    const answer = await fetch(path, what);
    refused.hidden = answer.ok;
    if (!answer.ok) refused.textContent = `The server refused: ${await answer.text()}`;
  } catch {
    refused.hidden = false;
    refused.textContent = "The server does not answer.";
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  changed = -Infinity;
  tell(running ? null : chosen());
});
$("invalidate").addEventListener("click", () => ask("cached/report", { method: "DELETE" }));
form.addEventListener("input", () => {
  changed = performance.now();
  showChosen();
});
form.addEventListener("change", () => {
  showChosen();
  changed = -Infinity;
  if (running) tell(chosen());
});
document.querySelector(".scale").addEventListener("change", (event) => {
  rates.log = event.target.value === "log";
  rates.draw();
});

/* What is shown. */

function showFigures({ point, saved, air }) {
  const { requests_per_second: requests, executions_per_second: executions } = point;
  text("requests", count(requests));
  text("requests-note", air.requests ? `${count(air.requests)} in flight` : "none in flight");
  text("executions", count(executions));
  text("executions-note", executions ? `one for ${plural(requests / executions, "request")}` : "");
  text("saved", requests ? `${hundredths.format(100 * Math.max(0, 1 - executions / requests))} %` : "–");
  text("queries-saved", count(saved.saved));
  text("queries-note", `${plural(saved.queries, "query", "queries")} for ${plural(saved.reports, "report")}`);
  text("p50", millis(point.p50_ms));
  text("p99-note", `99th percentile ${millis(point.p99_ms)}`);
}

const names = { plain: "Without the layer", shared: "With the layer", session: "With it, Set\u2011Cookie", cached: "With a cache" };

function cell(row, what, name = "td") {
  const cell = row.appendChild(document.createElement(name));
  if (name === "th") cell.scope = "row";
  cell.textContent = what;
  return cell;
}

function showLatest(latest, load) {
  const rows = latest.map(({ way, ran }) => {
    const row = document.createElement("tr");
    const name = cell(row, names[way], "th");
    const plan = name.appendChild(document.createElement("small"));
    plan.textContent = ran
      ? `${plural(ran.plan.clients, "client")}, ${plural(ran.plan.reports, "report")}` : "not yet run";
    row.className = load?.way === way ? "running" : ran ? "" : "none";
    const numbers = ran
      ? [count(ran.requests), count(ran.executions), count(ran.requests_per_second), millis(ran.p50_ms), millis(ran.p99_ms)]
      : ["–", "–", "–", "–", "–"];
    for (const number of numbers) cell(row, number);
    return row;
  });
  document.querySelector("#latest tbody").replaceChildren(...rows);
  showRatio(...latest.map(({ ran }) => ran));
}

// Only of what is comparable.
function showRatio(plain, shared, _, cached) {
  const same = (one, field) => plain.plan[field] === one.plan[field];
  const parts = [["With the layer ", shared], ["With the cache ", cached]].filter(([, one]) =>
    plain?.requests && one?.requests && same(one, "clients") && same(one, "reports"));
  if (!parts.length) {
    text("ratio", "To compare, run the same load without the layer and with the layer or the cache.");
    return;
  }
  $("ratio").replaceChildren(...parts.flatMap(([name, one]) => {
    const times = document.createElement("b");
    times.textContent = `${count(one.requests_per_second / plain.requests_per_second)} times`;
    const medians = `${millis(one.p50_ms)} instead of ${millis(plain.p50_ms)}`;
    return [name, times, ` the requests per second, at a median latency of ${medians}. `];
  }));
}

function showCache({ look_ups, hit_rate, stale_hits, loads }) {
  $("cache").hidden = !look_ups;
  if (!look_ups) return;
  const hits = document.createElement("b");
  hits.textContent = `${hundredths.format(100 * hit_rate)} %`;
  $("cache").replaceChildren("Of ", plural(look_ups, "cache lookup"), ", ", hits, " were hits, of which ",
    count(stale_hits), ` were served stale while the report was revalidated. The cache ran ${plural(loads, "load")}.`);
}

const REPORT = /^(?:\/plain|\/session|\/cached)?\/report\/([\w-]+)\?business=(\d+)$/;

function showAir(air) {
  const most = Math.max(...air.first.map(({ requests }) => requests));
  const rows = air.first.map(({ target, requests, executions, age_ms }) => {
    const row = document.createElement("tr");
    const name = cell(row, "", "th");
    const label = name.appendChild(document.createElement("span"));
    label.textContent = target.replace(REPORT, "$1, business $2");
    label.title = target;
    const bar = name.appendChild(document.createElement("div"));
    bar.className = "bar";
    bar.style.width = `${(100 * requests) / most}%`;
    for (const part of [executions, Math.max(0, requests - executions)]) {
      bar.appendChild(document.createElement("i")).style.flexGrow = part;
    }
    cell(row, count(executions));
    cell(row, count(requests));
    cell(row, executions ? millis(age_ms) : "–");
    return row;
  });
  document.querySelector("#air tbody").replaceChildren(...rows);
  document.querySelector("#air table").hidden = !rows.length;
  document.querySelector("#air .empty").hidden = rows.length > 0;
  text("air-sum", rows.length ? `${plural(air.requests, "request")}, ${plural(air.executions, "execution")}; `
    + `${rows.length} of ${plural(air.targets, "report")}` : "");
}

/* Events. */

let points = [];
let events = null;
let heard = performance.now();

function state(state, label) {
  if (document.body.dataset.state === state) return;
  document.body.dataset.state = $("connection").dataset.state = state;
  text("connection", label);
  button.disabled = state !== "open";
}

function listen() {
  events?.close();
  events = new EventSource("events");
  events.addEventListener("minute", ({ data }) => {
    points = JSON.parse(data);
    heard = performance.now();
  });
  events.addEventListener("moment", ({ data }) => {
    const moment = JSON.parse(data);
    heard = performance.now();
    state("open", "Live");
    if (points.at(-1)?.number !== moment.point.number) points.push(moment.point);
    points = points.filter(({ at_s }) => moment.point.at_s - at_s <= SHOWN);
    rates.show(points);
    latencies.show(points);
    showFigures(moment);
    showLatest(moment.latest, moment.load);
    showCache(moment.cache);
    showAir(moment.air);
    showRunning(moment.load, moment.left_s);
  });
  events.addEventListener("error", () => {
    state("lost", "Reconnecting");
    // A browser tries again by itself, unless it was answered with something else than events.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
}

setInterval(() => {
  if (performance.now() - heard > 3000) state("lost", "Reconnecting");
}, 1000);

// A browser may keep a page that was left, with its connection, and the load would go on for it.
addEventListener("pagehide", () => events.close());
addEventListener("pageshow", listen);

text("address", location.origin);
showChosen();
rates.draw();
latencies.draw();
