"use strict";
// Sends what the buttons say, shows each answer with the links to its signals, and switches faults.
// Without this script the buttons open the plain answers.

const SHOWN = 12; // answers that stay on the page
const answers = document.getElementById("answers");
const templates = fetch("/links").then((answer) => answer.json());

function link(name, href) {
  const anchor = document.createElement("a");
  Object.assign(anchor, { href, textContent: name });
  anchor.dataset.signal = name;
  return anchor;
}

/** Where each signal of that request is, by the service's own short links. */
function linksOf({ trace, logs, metrics, profile }, traceId, facts) {
  const known = Object.entries(facts).filter(([, value]) => value !== "");
  return Object.entries({ trace, logs, metrics, profile })
    .filter(([, template]) => template && traceId)
    .map(([name]) => link(name, `/go/${name}/${traceId}?${new URLSearchParams(known)}`));
}

/** A copy of the template, with the parts that change. */
function entry(url) {
  const article = document.getElementById("answer").content.firstElementChild.cloneNode(true);
  const part = (selector) => article.querySelector(selector);
  part("b").textContent = url.pathname + url.search;
  answers.prepend(article);
  while (answers.children.length > SHOWN) answers.lastElementChild.remove();
  return { article, part };
}

async function send(url) {
  const { article, part } = entry(url);
  part(".status").textContent = "…";
  const sent = Date.now();
  const started = performance.now();
  const answer = await fetch(url);
  const body = await answer.text();
  const took = performance.now() - started;
  const [, traceId = "", spanId = ""] = (answer.headers.get("traceresponse") ?? "").split("-");
  const facts = {
    span: spanId,
    route: url.pathname,
    request: answer.headers.get("x-request-id") ?? "",
    profile: answer.headers.get("x-profile-id") ?? "",
    at_ms: sent,
    took_ms: Math.ceil(took),
  };
  article.dataset.kind = answer.status >= 500 ? "error" : answer.status >= 400 ? "warning" : "ok";
  part(".status").textContent = answer.status;
  part(".took").textContent = `${took.toFixed(took < 10 ? 1 : 0)} ms`;
  part("code").textContent = traceId || "not traced";
  part("button").addEventListener("click", () => navigator.clipboard?.writeText(traceId));
  part("pre").textContent = body;
  part(".links").replaceChildren(...linksOf(await templates, traceId, facts));
}

for (const form of document.querySelectorAll(".offer")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const url = new URL(form.action);
    for (const [name, value] of new FormData(form)) if (value !== "") url.searchParams.set(name, value);
    send(url).catch((error) => {
      const article = answers.firstElementChild;
      article.dataset.kind = "error";
      article.querySelector(".status").textContent = String(error);
    });
  });
}

const faults = document.getElementById("faults");
const switches = faults.querySelectorAll("button[name]");

/** Shows which faults are on. */
function show(plan) {
  for (const button of switches) {
    const on = plan[button.name] > 0;
    button.setAttribute("aria-pressed", on);
    button.textContent = on ? "On" : "Off";
    button.disabled = false;
    if (on) faults.elements.namedItem(button.name).value = plan[button.name];
  }
  faults.querySelector("[type=reset]").disabled = false;
}

/** Asks `/faults` and shows what it answers; what it refuses is shown on the field. */
async function change(method, plan) {
  const request = { method, headers: { "content-type": "application/json" }, body: plan && JSON.stringify(plan) };
  const answer = await fetch("/faults", request);
  const state = await answer.json();
  if (answer.ok) show(state.default);
  return answer.ok ? "" : state.detail;
}

for (const button of switches) {
  button.addEventListener("click", async () => {
    const state = await (await fetch("/faults")).json();
    const input = button.closest(".fault").querySelector("input");
    const on = button.getAttribute("aria-pressed") === "true";
    const value = on ? 0 : Number(input.value);
    input.setCustomValidity(await change("PUT", { ...state.default, [button.name]: value }));
    input.reportValidity();
  });
}
faults.addEventListener("reset", (event) => {
  event.preventDefault();
  change("DELETE");
});
faults.addEventListener("submit", (event) => event.preventDefault());
faults.addEventListener("input", (event) => event.target.setCustomValidity(""));
change("GET");

// Readiness, metrics and faults as tables: name and value, and for metrics what tells the lines of one name apart.
const shown = document.getElementById("shown");

/** The leaves of a JSON value as rows: path and value. */
function leaves(value, path = "") {
  if (value === null || typeof value !== "object") return [[path, String(value ?? "none")]];
  return Object.entries(value).flatMap(([name, inner]) => leaves(inner, path ? `${path}.${name}` : name));
}

/** Lines of the metrics' exposition as rows: name, attributes, value. */
function samples(text) {
  const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
  return lines.map((line) => {
    const [, name, labels = "", value] = /^([^{\s]+)(?:\{(.*?)\})? (\S+)/.exec(line) ?? [null, line, "", ""];
    return [name, labels.replaceAll('"', " ").replaceAll(",", " "), value];
  });
}

for (const anchor of document.querySelectorAll("[data-show]")) {
  anchor.addEventListener("click", async (event) => {
    event.preventDefault();
    const answer = await fetch(anchor.href);
    const text = await answer.text();
    const json = answer.headers.get("content-type")?.includes("json");
    shown.querySelector("h2").textContent = `${anchor.textContent} (${answer.status})`;
    const rows = (json ? leaves(JSON.parse(text)) : samples(text)).map((cells) => {
      const row = document.createElement("tr");
      for (const cell of cells) row.insertCell().textContent = cell;
      return row;
    });
    shown.querySelector("tbody").replaceChildren(...rows);
    shown.querySelector("input").value = "";
    shown.showModal();
  });
}
shown.querySelector("input").addEventListener("input", (event) => {
  for (const row of shown.querySelectorAll("tr")) row.hidden = !row.textContent.includes(event.target.value);
});
