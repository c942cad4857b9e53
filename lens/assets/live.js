// What every page does: asks for itself again when something arrived, keys, copying, the theme.
"use strict";
(() => {
  const POLL_MS = 2000;
  const body = document.body;
  const signals = (body.dataset.signals || "").split(" ").filter(Boolean);

  // --- live -------------------------------------------------------------------------------------------------------------------------------
  const toggle = document.getElementById("live-toggle");
  let live = sessionStorage.getItem("lens-live") !== "off";
  let seen = null;
  const show = () => {
    toggle?.setAttribute("aria-pressed", String(live));
    if (toggle) toggle.lastElementChild.textContent = live ? "Live" : "Paused";
  };
  toggle?.addEventListener("click", () => {
    live = !live;
    sessionStorage.setItem("lens-live", live ? "on" : "off");
    show();
  });
  const typing = () => document.activeElement?.closest("#live input, #live select");
  const poll = async () => {
    try {
      if (live && !document.hidden && signals.length && !typing() && getSelection().isCollapsed) {
        const revisions = await (await fetch("/live")).json();
        body.classList.remove("away");
        const now = signals.map((signal) => revisions[signal]).join();
        if (seen !== null && seen !== now) body.dispatchEvent(new CustomEvent("lens:tick"));
        seen = now;
      }
    } catch {
      body.classList.add("away");
    }
    setTimeout(poll, POLL_MS);
  };
  show();
  poll();

  // Filters that say nothing stay out of the address.
  document.addEventListener("htmx:config:request", (event) => {
    const { body: values } = event.detail.ctx.request;
    if (!(values instanceof FormData)) return;
    for (const [name, value] of [...values]) if (value === "") values.delete(name);
  });

  // --- theme ------------------------------------------------------------------------------------------------------------------------------
  document.getElementById("theme-toggle")?.addEventListener("click", () => {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    if (next === system) {
      delete root.dataset.theme;
      localStorage.removeItem("lens-theme");
    } else {
      root.dataset.theme = next;
      localStorage.setItem("lens-theme", next);
    }
    document.dispatchEvent(new CustomEvent("lens:theme"));
  });

  // --- subtrees of a trace fold ----------------------------------------------------------------------------------------------------------
  const folded = new Set();
  const unfolded = () => {
    let below = Infinity;
    for (const row of document.querySelectorAll("details.span")) {
      const depth = Number(row.dataset.depth);
      if (depth <= below) below = Infinity;
      row.hidden = depth > below;
      row.classList.toggle("folded", folded.has(row.id));
      if (below === Infinity && folded.has(row.id)) below = depth;
    }
  };
  const fold = (row, on) => {
    if (!row.querySelector(".fold")) return;
    if (on) folded.add(row.id);
    else folded.delete(row.id);
    unfolded();
  };
  document.addEventListener("click", (event) => {
    const row = event.target.closest(".fold")?.closest("details.span");
    if (!row) return;
    event.preventDefault();
    fold(row, !folded.has(row.id));
  });
  document.addEventListener("htmx:after:swap", unfolded);

  // --- the range of time: dragging zooms, and a button goes back ---------------------------------------------------------------------------
  window.lensZoom = (from, to) => {
    const address = new URL(location);
    for (const name of ["range", "page", "until_ms", "before"]) address.searchParams.delete(name);
    address.searchParams.set("from_ms", Math.floor(from));
    address.searchParams.set("to_ms", Math.ceil(Math.max(to, from + 1)));
    sessionStorage.setItem("lens-zoomed", "yes");
    location.assign(address);
  };
  document.addEventListener("pointerdown", (begin) => {
    const figure = begin.target.closest?.("[data-zoom]");
    if (!figure || begin.button !== 0) return;
    const box = figure.querySelector("svg").getBoundingClientRect();
    const [left, right] = [Number(figure.dataset.left || 0), Number(figure.dataset.right || 0)];
    const shade = document.createElement("div");
    shade.className = "zooming";
    const move = (event) => {
      if (Math.abs(event.clientX - begin.clientX) < 5) return;
      const inside = (x) => Math.min(Math.max(x, box.left), box.right) - figure.getBoundingClientRect().left;
      const [from, to] = [inside(begin.clientX), inside(event.clientX)].sort((a, b) => a - b);
      Object.assign(shade.style, { left: `${from}px`, width: `${to - from}px` });
      figure.append(shade);
    };
    const end = (event) => {
      removeEventListener("pointermove", move);
      shade.remove();
      if (Math.abs(event.clientX - begin.clientX) < 5) return;
      // A bar under the pointer is not meant to be opened.
      addEventListener("click", (click) => click.preventDefault(), { capture: true, once: true });
      const at = (x) => {
        const share = ((x - box.left) / box.width - left / 100) / (1 - (left + right) / 100);
        return Number(figure.dataset.from) + Math.min(Math.max(share, 0), 1) * (figure.dataset.to - figure.dataset.from);
      };
      window.lensZoom(...[at(begin.clientX), at(event.clientX)].sort((a, b) => a - b));
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end, { once: true });
  });
  document.addEventListener("dragstart", (event) => event.target.closest?.("[data-zoom]") && event.preventDefault());
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-back]") || !sessionStorage.getItem("lens-zoomed")) return;
    event.preventDefault();
    sessionStorage.removeItem("lens-zoomed");
    history.back();
  });

  // --- tables that sort ---------------------------------------------------------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-sort]");
    if (!button) return;
    const table = button.closest("table");
    for (const head of table.querySelectorAll("[aria-sort]")) head.removeAttribute("aria-sort");
    button.closest("th").setAttribute("aria-sort", "descending");
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => b.dataset[button.dataset.sort] - a.dataset[button.dataset.sort]));
  });

  // --- a file that was exported comes in again ------------------------------------------------------------------------------------------------
  document.addEventListener("change", async (event) => {
    if (event.target.id !== "import" || !event.target.files.length) return;
    const note = document.getElementById("import-note");
    note.textContent = "Importing …";
    const answer = await fetch("/api/import", { method: "POST", headers: { "content-type": "application/x-ndjson" }, body: event.target.files[0] });
    const counts = await answer.json();
    note.textContent = answer.ok ? `${counts.spans} spans, ${counts.records} records, ${counts.points} points` : counts.detail;
  });

  // --- keys -------------------------------------------------------------------------------------------------------------------------------
  const help = document.getElementById("help");
  document.getElementById("help-toggle")?.addEventListener("click", () => help.showModal());
  const ROWS = "details.span > summary, details.record > summary, table.list a.row";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const editing = event.target.closest?.("input, select, textarea");
    if (event.key === "/" && !editing) {
      const search = document.querySelector("[data-focus='/']") || document.querySelector("form.filters select");
      if (search) {
        event.preventDefault();
        search.focus();
        search.select?.();
      }
    } else if (event.key === "Escape" && editing) {
      // The first Escape empties a search, the next one leaves it for the first row; the focus is never lost.
      if (event.target.type === "search" && event.target.value) {
        event.preventDefault();
        event.target.value = "";
        event.target.dispatchEvent(new Event("input", { bubbles: true }));
        event.target.dispatchEvent(new Event("change", { bubbles: true }));
      } else {
        (document.querySelector(ROWS) || document.getElementById("main")).focus();
      }
    } else if ((event.key === "[" || event.key === "]") && !editing) {
      document.querySelector(`[data-key="${event.key}"]`)?.click();
    } else if (event.key === "?" && !editing) {
      help?.showModal();
    } else if (!editing && ["ArrowDown", "ArrowUp", "j", "k"].includes(event.key)) {
      const rows = [...document.querySelectorAll(ROWS)].filter((row) => row.offsetParent !== null || row.getClientRects().length);
      const at = rows.indexOf(document.activeElement);
      // Arrows scroll the page unless a row has the focus; j and k also begin.
      if (at < 0 && event.key.startsWith("Arrow")) return;
      const down = event.key === "ArrowDown" || event.key === "j";
      const next = rows[at < 0 ? 0 : at + (down ? 1 : -1)];
      if (next) {
        event.preventDefault();
        next.focus();
      }
    } else if (!editing && ["ArrowRight", "ArrowLeft"].includes(event.key)) {
      const row = document.activeElement?.closest("summary")?.parentElement;
      if (!row) return;
      const right = event.key === "ArrowRight";
      if (row.dataset.depth !== undefined && (right ? folded.has(row.id) : !row.open)) fold(row, !right);
      else row.open = right;
    }
  });

  // --- a record or span named in the address opens -------------------------------------------------------------------------------------------
  const open = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target && location.hash.startsWith("#span-") && document.querySelector(".waterfall") && !location.search.includes("span=")) {
      // It is among the spans that are not drawn yet.
      location.replace(`?span=${location.hash.slice(6, 22)}${location.hash}`);
    }
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.scrollIntoView({ block: "center" });
      target.firstElementChild.focus({ preventScroll: true });
    }
  };
  addEventListener("hashchange", open);
  open();

  // --- copying, and lists that narrow while typing -----------------------------------------------------------------------------------------------
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1200);
  });
  const narrow = () => {
    for (const input of document.querySelectorAll("[data-filter]")) {
      const wanted = input.value.toLowerCase();
      for (const item of document.querySelectorAll(input.dataset.filter)) {
        item.parentElement.hidden = !item.textContent.toLowerCase().includes(wanted);
      }
    }
  };
  document.addEventListener("input", (event) => event.target.matches("[data-filter]") && narrow());
  document.addEventListener("htmx:after:swap", narrow);
  document.querySelector(".metric-list [aria-current]")?.scrollIntoView({ block: "nearest" });
})();
