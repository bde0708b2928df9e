// Keeps the first page fresh: numbers and chart from the JSON API, tables as the server renders them. Everything is
// text content, points or markup of this server.
"use strict";
const every = 2000, seconds = 300, width = 600, height = 96;
const $ = (name) => document.querySelector(`[data-bind="${name}"]`);
const number = new Intl.NumberFormat("en-US");
const rate = (v) => (v > 0 && v < 10 ? v.toFixed(1) : number.format(Math.round(v)));
let points = [], last = "";

function set(name, text) {
  const e = $(name);
  if (e && e.textContent !== text) e.textContent = text;
}

function age(s) {
  s = Math.max(0, Math.floor(s));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

async function get(path, kind) {
  const r = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!r.ok) throw new Error(`${path}: ${r.status}`);
  return kind === "json" ? r.json() : r.text();
}

function draw() {
  if (points.length < 2) return;
  const peak = Math.max(...points.map((p) => Math.max(p.received, p.delivered)));
  const x = (i) => (((seconds - points.length + i) / (seconds - 1)) * width).toFixed(1);
  const y = (v) => (height - 2 - (peak > 0 ? (v / peak) * (height - 6) : 0)).toFixed(1);
  const line = (key) => points.map((p, i) => `${x(i)},${y(p[key])}`).join(" ");
  const out = line("delivered");
  const svg = document.getElementById("spark");
  svg.querySelector(".in").setAttribute("points", line("received"));
  svg.querySelector(".out").setAttribute("points", out);
  svg.querySelector(".area").setAttribute("points", `${x(0)},${height} ${out} ${width},${height}`);
  set("peak", rate(peak));
}

function show(s) {
  set("received", rate(s.rates.received));
  set("delivered", rate(s.rates.delivered));
  set("refused", rate(s.rates.refused));
  set("sessions", number.format(s.totals.sessions));
  set("offline", number.format(s.totals.sessions_offline));
  set("connections", number.format(s.totals.connections));
  set("subscriptions", number.format(s.totals.subscriptions));
  set("retained", number.format(s.totals.retained));
  set("queued", number.format(s.totals.queued));
  set("dead", number.format(s.totals.dead_letters));
  set("uptime", age(s.uptime_seconds));
  set("ready", s.ready ? "ready" : "not ready");
  const chip = $("ready");
  chip.classList.toggle("good", s.ready);
  chip.classList.toggle("bad", !s.ready);
}

// Tables are left alone while somebody selects text in them.
function replace(html) {
  const panels = document.getElementById("panels"), sel = document.getSelection();
  if (sel && !sel.isCollapsed && panels.contains(sel.anchorNode)) return;
  if (last === html) return;
  const scrolls = [...panels.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
  panels.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  panels.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = scrolls[i] || 0; });
  last = html;
}
async function tick() {
  if (!document.hidden) {
    try {
      const since = points.length ? points[points.length - 1].time : 0;
      const [status, history, html] = await Promise.all([
        get("/api/v1/status", "json"), get(`/api/v1/history?since=${since}`, "json"), get("/panels", "text"),
      ]);
      points = points.concat(history).slice(-seconds);
      show(status);
      draw();
      replace(html);
      document.getElementById("lost").hidden = true;
    } catch {
      document.getElementById("lost").hidden = false;
      $("ready").textContent = "lost";
      $("ready").classList.replace("good", "bad");
    }
  }
  setTimeout(tick, every);
}
tick();
