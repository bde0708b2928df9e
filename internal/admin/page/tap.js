// The live tap on the first page: the decision paths of events from /api/v1/tap, as they come. Everything that an event
// says is shown as text content, never as markup.
"use strict";
(() => {
  const root = document.getElementById("tap");
  if (!root || !window.EventSource) return;
  const most = 50; // rows that are kept
  const form = root.querySelector("form"), list = root.querySelector("ol"), said = root.querySelector("output"), button = root.querySelector("button");
  const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
  let source = null, shown = 0, until = null, missed = "";

  const el = (name, text, cls) => {
    const e = document.createElement(name);
    if (text !== undefined) e.textContent = text;
    if (cls) e.className = cls;
    return e;
  };
  const took = (us) => (us >= 1e6 ? `${(us / 1e6).toFixed(2)} s` : us >= 1e3 ? `${(us / 1e3).toFixed(1)} ms` : `${us.toFixed(1)} µs`);
  const say = (text, bad) => {
    said.textContent = text;
    said.classList.toggle("err", Boolean(bad));
  };
  const now = () => say(`${shown} shown${until ? `, until ${time.format(until).slice(0, 8)}` : ""}${missed}`);

  function tone(r) {
    if (!r.complete) return "warn";
    return !r.outcome || r.outcome === "accepted" || r.outcome === "no_match" ? "good" : "bad";
  }

  // targets names every target with its last word.
  function targets(r) {
    const last = new Map();
    for (const s of r.steps) if (s.step === "target") last.set(`${s.kind} ${s.name}`, s.verdict);
    const all = [...last].map(([k, v]) => `${k}: ${v}`);
    return all.length > 3 ? `${all.slice(0, 3).join(", ")} and ${all.length - 3} more` : all.join(", ");
  }

  function words(s) {
    const who = [s.kind, s.name, s.member, s.attempt ? `attempt ${s.attempt}` : ""].filter(Boolean).join(" ");
    const what = [s.verdict, s.outcome !== s.verdict ? s.outcome : ""].filter(Boolean).join(", ");
    let text = [who, what].filter(Boolean).join(": ");
    if (s.topic) text += `, topic is now ${s.topic}`;
    if (s.detail) text += ` (${s.detail})`;
    return text.trim();
  }

  function path(r) {
    const t = el("table", undefined, "path"), body = t.appendChild(el("tbody"));
    for (const s of r.steps) {
      const row = body.appendChild(el("tr"));
      row.append(el("td", took(s.us), "r"), el("td", s.step), el("td", words(s)), el("td", s.loop ? `loop ${s.loop}` : ""));
    }
    return t;
  }

  function row(r) {
    const li = el("li"), d = li.appendChild(el("details")), s = d.appendChild(el("summary"));
    li.dataset.id = r.id;
    s.append(
      el("time", time.format(new Date(r.time))), el("span", r.client || "-"), el("code", r.topic), el("span", `q${r.qos}`),
      el("span", r.outcome || (r.complete ? "no answer" : "open"), `chip ${tone(r)}`), el("small", targets(r)),
      el("span", took(r.steps.length ? r.steps[r.steps.length - 1].us : 0), "took"),
    );
    // The steps are made only for who looks.
    d.addEventListener("toggle", () => { if (d.open && d.children.length === 1) d.append(path(r)); });
    return li;
  }

  function show(r) {
    const old = [...list.children].find((li) => li.dataset.id === String(r.id)), fresh = row(r);
    if (old) {
      const open = old.querySelector("details").open;
      old.replaceWith(fresh);
      fresh.querySelector("details").open = open;
      return;
    }
    list.prepend(fresh);
    shown++;
    // What somebody reads is not taken away.
    for (let i = list.children.length - 1; list.children.length > most && i > 0; i--) {
      if (!list.children[i].querySelector("details").open) list.children[i].remove();
    }
    while (list.children.length > 2 * most) list.lastChild.remove();
  }

  function stop(text, bad) {
    if (source) source.close();
    source = null;
    button.textContent = "Watch";
    if (text) say(text, bad);
  }

  // why asks again in a way that shows the reason: an EventSource has no words for a refusal.
  async function why(url) {
    try {
      const r = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(3000) });
      if (r.ok) {
        r.body.cancel();
        return "the stream was cut off";
      }
      const p = await r.json();
      return p.detail || p.title;
    } catch {
      return "this node does not answer";
    }
  }

  function start() {
    const q = new URLSearchParams();
    for (const f of ["topic", "where"]) if (form.elements[f].value.trim()) q.set(f, form.elements[f].value.trim());
    const url = `/api/v1/tap?${q}`;
    shown = 0;
    missed = "";
    list.replaceChildren();
    say("…");
    button.textContent = "Stop";
    source = new EventSource(url);
    const mine = source;
    source.addEventListener("begin", (e) => { until = new Date(JSON.parse(e.data).until); now(); });
    source.addEventListener("record", (e) => { show(JSON.parse(e.data)); now(); });
    source.addEventListener("count", (e) => {
      const c = JSON.parse(e.data);
      missed = (c.dropped ? `, ${c.dropped} left out` : "") + (c.failed ? `, the condition failed for ${c.failed}: ${c.error}` : "");
      now();
    });
    source.addEventListener("end", (e) => stop(`${shown} shown; the tap ended: ${JSON.parse(e.data).reason}`));
    source.onerror = async () => {
      if (source !== mine) return;
      stop("…");
      const text = await why(url);
      if (!source) say(text, true);
    };
  }

  form.addEventListener("submit", (e) => {
    e.preventDefault();
    if (source) stop(`${shown} shown; stopped`);
    else start();
  });
  addEventListener("pagehide", () => stop());
  root.hidden = false;
  if (location.hash === "#watch") start(); // a link that watches at once
})();
