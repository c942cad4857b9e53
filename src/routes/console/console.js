"use strict";
// Sends the clicked request, shows its answer and the links to its signals. Without this script the links open the answer.
const at = (id) => document.getElementById(id);

/** The template with the facts of one request put in. */
function expand(template, facts) {
  return template.replace(/\{([a-z_]+)\}/g, (whole, name) =>
    name in facts ? encodeURIComponent(facts[name]) : whole);
}

async function send(link) {
  const templates = await (await fetch("/links")).json();
  const from = Date.now();
  const answer = await fetch(link.href);
  const body = await answer.text();
  const [, traceId = "", spanId = ""] = (answer.headers.get("traceresponse") ?? "").split("-");
  const facts = {
    trace_id: traceId,
    span_id: spanId,
    service: "signalbox-api",
    route: new URL(link.href).pathname,
    request_id: answer.headers.get("x-request-id") ?? "",
    from_ms: from - 60_000,
    to_ms: Date.now() + 60_000,
  };
  at("status").textContent = `${answer.status} in ${Date.now() - from} ms`;
  at("trace").textContent = traceId || "not traced";
  at("body").textContent = body;
  at("links").replaceChildren(...Object.entries(templates)
    .filter(([, template]) => template)
    .map(([name, template]) => {
      const anchor = document.createElement("a");
      anchor.href = expand(template, facts);
      anchor.textContent = name;
      return anchor;
    }));
  at("result").hidden = false;
}

for (const link of document.querySelectorAll(".requests a")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    send(link).catch((error) => {
      at("status").textContent = String(error);
      at("result").hidden = false;
    });
  });
}
