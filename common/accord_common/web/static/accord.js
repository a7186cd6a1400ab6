// What pages do in the browser: local times, freshness, live updates, charts, copying, the theme.
// Everything shown is in the page that the server sent; this file only keeps it fresh and draws it.
"use strict";

const SILENT_MS = 8000; // the server beats every 5 s; after this the page asks by itself
const LOST_MS = 15000; // and after this it says that it may be old
const OLD_MS = 30000; // what changes with time alone (who fell silent, what ended) no event tells

// Times: UTC stands in the page; local time is added, in the page's language.

function localTimes(root) {
  const format = new Intl.DateTimeFormat(document.documentElement.lang, {
    dateStyle: "medium",
    timeStyle: "short",
  });
  for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
    element.dataset.local = "";
    element.title = element.textContent; // UTC, as the server wrote it
    element.textContent = `${format.format(new Date(element.dateTime))} (${element.title})`;
  }
}

// Freshness, and the banner that admits when there is none.

let heardAt = Date.now();
let askedAt = heardAt;
let shownAt = heardAt; // since when the tab is in sight: what nobody saw is nothing to warn of
let behind = false; // something changed, and the page does not show it yet

function heard() {
  heardAt = Date.now();
  tell();
}

function fresh() {
  behind = false;
  heard();
}

function tell() {
  const silence = Date.now() - heardAt;
  const shown = document.getElementById("freshness");
  if (shown !== null) {
    shown.textContent = shown.dataset.words.replace("{n}", String(Math.round(silence / 1000)));
  }
  document.getElementById("disconnected").hidden = Date.now() - Math.max(heardAt, shownAt) < LOST_MS;
}

// Live: the server says that something changed, or says nothing; the page asks for itself again.

function refresh() {
  askedAt = Date.now();
  htmx.trigger("#live", "refresh");
}

// Many records may come in a second; a page that is asked for while one is on its way helps nobody.

const GAP_MS = 700;
let due = null;

function refreshSoon() {
  if (due !== null) return;
  due = setTimeout(() => {
    due = null;
    refresh();
  }, Math.max(0, askedAt + GAP_MS - Date.now()));
}

function watch() {
  tell();
  const silent = Date.now() - Math.max(heardAt, askedAt) > SILENT_MS;
  const old = Date.now() - askedAt > OLD_MS;
  if ((silent || old) && document.visibilityState === "visible") refresh();
}

// A browser has six connections to one host, and each stream holds one: only a tab in sight listens.
// A stream that was refused does not come back by itself, as one that broke does.

let events = null;

function listen(address) {
  events = new EventSource(address);
  events.addEventListener("beat", () => behind || heard());
  events.addEventListener("changed", () => {
    behind = true;
    refreshSoon();
  });
}

function keepListening() {
  if (document.visibilityState !== "visible") {
    events?.close();
    events = null;
  } else if (events === null || events.readyState === EventSource.CLOSED) {
    listen(document.getElementById("live").dataset.events); // of the page that is shown now
  }
}

function turn() {
  if (document.visibilityState === "visible") {
    shownAt = Date.now();
    refresh();
  }
  keepListening();
}

// Charts: a figure is drawn from the table that it holds, so the two cannot differ.

function column(table, index) {
  return [...table.tBodies[0].rows].map((row) => row.cells[index].dataset.value ?? "");
}

function options(figure, table) {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const faint = style.getPropertyValue("--line").trim();
  const palette = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => style.getPropertyValue(`--series-${n}`).trim());
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const axis = {
    axisLine: { lineStyle: { color: faint } },
    axisLabel: { color: ink },
    nameTextStyle: { color: ink },
    splitLine: { lineStyle: { color: faint } },
  };
  return {
    animation: false,
    color: palette,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: ink },
    grid: { left: 8, right: 16, top: 12, bottom: 24, containLabel: true },
    tooltip: { trigger: "axis", renderMode: "richText" }, // as HTML it would need inline styles
    xAxis: { type: "category", data: column(table, 0), name: heads[0], nameLocation: "middle", nameGap: 26, ...axis },
    yAxis: { type: "value", scale: figure.dataset.chart === "line", ...axis },
    series: heads.slice(1).map((name, index) => ({
      name,
      type: figure.dataset.chart,
      data: column(table, index + 1).map((text) => (text === "" ? null : Number(text))),
      symbolSize: 5,
      connectNulls: true,
    })),
  };
}

function drawCharts() {
  if (typeof echarts === "undefined") return;
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const canvas = figure.querySelector(".canvas");
    const table = figure.querySelector("table");
    if (canvas === null || table === null || table.tBodies[0].rows.length === 0) continue;
    const chart = echarts.getInstanceByDom(canvas) ?? echarts.init(canvas, null, { renderer: "svg" });
    chart.setOption(options(figure, table), { notMerge: true });
  }
}

function resizeCharts() {
  for (const canvas of document.querySelectorAll("figure[data-chart] .canvas")) {
    echarts.getInstanceByDom(canvas)?.resize();
  }
}

// Buttons that need no server.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy], button[data-theme-to]");
  if (button === null) return;
  if (button.dataset.themeTo !== undefined) {
    const root = document.documentElement;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme ?? dark) === "dark" ? "light" : "dark";
    localStorage.setItem("accord-theme", root.dataset.theme);
    drawCharts();
  } else {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = button.dataset.done;
  }
});

// Forms that call the API: `data-api` is its method and path, `data-then` where to go afterwards;
// `data-go` names the value of the answer that is an address to go to.

function problemOf(form, problem) {
  const shown = form.querySelector(".problem");
  const words = shown.dataset[problem.code.replace(/-(.)/g, (_, letter) => letter.toUpperCase())];
  shown.textContent = words ?? `${problem.detail} ${problem.hint} [${problem.code}]`;
  shown.hidden = false;
}

// A field's kind: `data-json` is number, list or flag where JSON wants more than text; `data-query`
// goes into the address; with `data-raw` the body is the chosen file, or else the pasted text.

function fieldsOf(form) {
  const body = {};
  const query = new URLSearchParams();
  for (const field of form.elements) {
    const { name, value } = field;
    const unmarked = field.type === "checkbox" && !field.checked;
    if (name === "" || field.disabled || field.type === "file") continue;
    if (field.dataset.json === "flag") body[name] = field.checked;
    else if (field.dataset.json === "list") body[name] = [...(body[name] ?? []), ...(unmarked ? [] : [value])];
    else if (unmarked || value === "") continue;
    else if (field.dataset.query !== undefined) query.append(name, value);
    else body[name] = field.dataset.json === "number" ? Number(value) : value;
  }
  if (form.dataset.code === "fragment" && location.hash !== "") body.code = location.hash.slice(1);
  return { body, query: query.size === 0 ? "" : `?${query}` };
}

function bodyOf(form, method, fields) {
  if (method === "DELETE") return undefined;
  if (form.dataset.raw === undefined) return JSON.stringify(fields);
  return form.querySelector("[type=file]").files[0] ?? fields.text ?? "";
}

// What came back: `data-told` names a value to show, `data-when` shows its element for one value.

function show(form, told) {
  for (const place of form.querySelectorAll("[data-when]")) {
    const [name, value] = place.dataset.when.split("=");
    place.hidden = String(told[name]) !== value;
  }
  for (const place of form.querySelectorAll("[data-told]")) {
    const value = told[place.dataset.told];
    place.textContent = Array.isArray(value) ? value.join("\n") : value;
    place.hidden = Array.isArray(value) && value.length === 0;
    const within = place.hidden ? null : place.closest("[hidden]");
    if (within !== null) {
      within.hidden = false;
      within.dataset.shown = "";
    }
  }
}

// Before the next answer nothing of the last one stands: a file that holds says nothing of another.

function clear(form) {
  form.querySelector(".problem")?.setAttribute("hidden", "");
  for (const place of form.querySelectorAll("[data-when], [data-shown]")) place.hidden = true;
  for (const place of form.querySelectorAll("[data-told]")) place.textContent = "";
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.dataset.api === undefined) return;
  event.preventDefault();
  if (form.dataset.asking !== undefined) return; // an impatient finger asks once
  form.dataset.asking = "";
  clear(form);
  const [method, address] = form.dataset.api.split(" ");
  const { body, query } = fieldsOf(form);
  const kind = form.dataset.raw === undefined ? "application/json" : "application/octet-stream";
  const answer = await fetch(address + query, {
    method,
    headers: { "Content-Type": kind, "X-CSRF-Token": document.body.dataset.csrf },
    body: bodyOf(form, method, body),
  }).catch(() => null);
  delete form.dataset.asking;
  if (answer === null) {
    document.getElementById("disconnected").hidden = false;
    return;
  }
  if (!answer.ok) return problemOf(form, await answer.json());
  const told = answer.status === 204 ? {} : await answer.json();
  if (form.dataset.go !== undefined) return location.assign(told[form.dataset.go]);
  if (form.dataset.then !== undefined) return location.assign(form.dataset.then);
  show(form, told);
});

// What a person has typed, chosen or marked, and not sent yet.

function typed(element) {
  switch (element.nodeName) {
    case "INPUT":
      return element.value !== element.defaultValue || element.checked !== element.defaultChecked;
    case "TEXTAREA":
      return element.value !== element.defaultValue;
    case "SELECT":
      return [...element.options].some((option) => option.selected !== option.defaultSelected);
    default:
      return false;
  }
}

function settle() {
  localTimes(document);
  drawCharts();
}

document.addEventListener("DOMContentLoaded", () => {
  // Morphing keeps what a person has open or under the cursor, and leaves drawn charts alone.
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old, next) => {
    if (old.classList?.contains("canvas")) return false;
    if (old.nodeName === "DETAILS") next.open = old.open;
    if (typed(old)) return false;
    // What the API answered stands in the form that asked; another form is another's.
    if (old.dataset?.api !== undefined && old.dataset.api === next.dataset?.api) return false;
    return true;
  };
  settle();
  if (document.getElementById("live").dataset.events !== undefined) {
    keepListening();
    document.addEventListener("visibilitychange", turn);
    setInterval(watch, 1000);
    setInterval(keepListening, SILENT_MS);
  }
});
document.addEventListener("htmx:afterSwap", settle);
document.addEventListener("htmx:afterRequest", (event) => event.detail.successful && fresh());
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) location.reload(); // the session ended: the server leads on
});
addEventListener("resize", resizeCharts);
