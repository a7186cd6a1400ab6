// What pages do in the browser: local times, freshness, live updates, charts, copying, the theme.
// Everything shown is in the page that the server sent; this file only keeps it fresh and draws it.
"use strict";

const SILENT_MS = 8000; // the server beats every 5 s; after this the page asks by itself
const LOST_MS = 15000; // and after this it says that it may be old

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

function heard() {
  heardAt = Date.now();
  tell();
}

function tell() {
  const silence = Date.now() - heardAt;
  const shown = document.getElementById("freshness");
  if (shown !== null) {
    shown.textContent = shown.dataset.words.replace("{n}", String(Math.round(silence / 1000)));
  }
  document.getElementById("disconnected").hidden = silence < LOST_MS;
}

// Live: the server says that something changed, or says nothing; the page asks for itself again.

function refresh() {
  askedAt = Date.now();
  htmx.trigger("#live", "refresh");
}

function watch() {
  tell();
  const silent = Date.now() - Math.max(heardAt, askedAt) > SILENT_MS;
  if (silent && document.visibilityState === "visible") refresh();
}

function listen(address) {
  const events = new EventSource(address); // connects again by itself
  events.addEventListener("beat", heard);
  events.addEventListener("changed", () => {
    heard();
    refresh();
  });
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
    textStyle: { fontFamily: "inherit", color: ink },
    grid: { left: 8, right: 16, top: 36, bottom: 24, containLabel: true },
    legend: { show: heads.length > 2, top: 0, textStyle: { color: ink } },
    tooltip: { trigger: "axis", renderMode: "richText" }, // as HTML it would need inline styles
    xAxis: { type: "category", data: column(table, 0), name: heads[0], nameLocation: "middle", nameGap: 26, ...axis },
    yAxis: { type: "value", scale: figure.dataset.chart === "line", ...axis },
    series: heads.slice(1).map((name, index) => ({
      name,
      type: figure.dataset.chart,
      data: column(table, index + 1).map((text) => (text === "" ? null : Number(text))),
      symbolSize: 5,
      connectNulls: false,
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

// Forms that call the API: `data-api` is its method and path, `data-then` where to go afterwards.

function problemOf(form, problem) {
  const shown = form.querySelector(".problem");
  const words = shown.dataset[problem.code.replace(/-(.)/g, (_, letter) => letter.toUpperCase())];
  shown.textContent = words ?? `${problem.detail} ${problem.hint} [${problem.code}]`;
  shown.hidden = false;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.dataset.api === undefined) return;
  event.preventDefault();
  const [method, address] = form.dataset.api.split(" ");
  const fields = [...new FormData(form)].filter(([, value]) => value !== "");
  if (form.dataset.code === "fragment") fields.push(["code", location.hash.slice(1)]);
  const answer = await fetch(address, {
    method,
    headers: { "Content-Type": "application/json", "X-CSRF-Token": document.body.dataset.csrf },
    body: method === "DELETE" ? undefined : JSON.stringify(Object.fromEntries(fields)),
  });
  if (!answer.ok) return problemOf(form, await answer.json());
  const then = form.dataset.then;
  if (then !== undefined) return location.assign(then);
  const told = answer.status === 204 ? {} : await answer.json();
  for (const place of form.querySelectorAll("[data-told]")) {
    const value = told[place.dataset.told];
    place.textContent = Array.isArray(value) ? value.join("\n") : value;
    place.closest("[hidden]")?.removeAttribute("hidden");
  }
});

function settle() {
  localTimes(document);
  drawCharts();
}

document.addEventListener("DOMContentLoaded", () => {
  // Morphing keeps what a person has open or under the cursor, and leaves drawn charts alone.
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old, next) => {
    if (old.classList?.contains("canvas")) return false;
    if (old.nodeName === "DETAILS") next.open = old.open;
    return true;
  };
  settle();
  const { events } = document.getElementById("live").dataset;
  if (events !== undefined) {
    listen(events);
    setInterval(watch, 1000);
  }
});
document.addEventListener("htmx:afterSwap", settle);
document.addEventListener("htmx:afterRequest", (event) => event.detail.successful && heard());
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) location.reload(); // the session ended: the server leads on
});
addEventListener("resize", resizeCharts);
