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

  // --- keys -------------------------------------------------------------------------------------------------------------------------------
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
      event.target.blur();
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
      if (row) row.open = event.key === "ArrowRight";
    }
  });

  // --- a record or span named in the address opens -------------------------------------------------------------------------------------------
  const open = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
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
