// Draws the flame graph of the profiles page: root on top, click or Enter zooms, Escape zooms out.
"use strict";
(() => {
  const ROW = 21;
  const LETTER = 7; // pixels
  const NARROWEST = 0.1; // per cent of the width
  let drawn = "";
  let flame = null;
  let focus = null;

  const three = (value) => String(Number(value.toPrecision(3)));
  const scaled = (value, steps) => {
    const [unit, by] = steps.find(([, by]) => value >= by) || steps[steps.length - 1];
    return `${three(value / by)} ${unit}`;
  };
  const readable = (value) => {
    if (flame.unit === "nanoseconds") return scaled(value, [["s", 1e9], ["ms", 1e6], ["µs", 1e3], ["ns", 1]]);
    if (flame.unit === "bytes") return scaled(value, [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]]);
    return three(value);
  };

  // The crate a function belongs to decides its colour; the runtime that everything stands on has none.
  const tone = (name) => {
    if (flame.runtime[name]) return "runtime";
    let hash = 0;
    for (const letter of flame.names[name].replace(/^[<&(*]*(dyn |mut )*/, "").split("::")[0]) hash = (hash * 31 + letter.charCodeAt(0)) % 997;
    return `s${hash % 10}`;
  };

  // Where the whole name finds no room, its end says more than its beginning.
  const shortened = (name) => {
    let short = name;
    for (let before; before !== short; ) [before, short] = [short, short.replace(/<[^<>]*>/g, "")];
    return short.split("::").filter(Boolean).slice(-2).join("::") || name;
  };

  const holder = () => document.getElementById("flame");
  const marks = (name) => {
    const wanted = holder().dataset.mark.toLowerCase();
    return wanted && name.toLowerCase().includes(wanted);
  };

  const draw = () => {
    const root = holder();
    if (!root || !flame) return;
    root.replaceChildren();
    if (!flame.frames.length) {
      root.textContent = "No sample passes these filters.";
      return;
    }
    const zoom = focus ? { start: focus[1], width: focus[2], depth: focus[0] } : { start: 0, width: flame.total, depth: -1 };
    const bar = document.createElement("p");
    bar.className = "flame-bar";
    const note = document.createElement("span");
    note.textContent = focus ? `${flame.names[focus[4]]}: ${readable(focus[2])}, ${((100 * focus[2]) / flame.total).toFixed(1)} % of ${readable(flame.total)}` : `${readable(flame.total)} in all. Click a frame to zoom in; arrows walk.`;
    bar.append(note);
    if (focus) {
      const out = document.createElement("button");
      out.type = "button";
      out.textContent = "Zoom out";
      out.addEventListener("click", () => zoomTo(null));
      bar.append(out);
    }
    const graph = document.createElement("div");
    graph.className = "flame-graph";
    graph.setAttribute("role", "tree");
    let deepest = 0;
    const tones = [];
    for (const frame of flame.frames) {
      const [depth, start, width, own, name] = frame;
      // What is inlined comes without its crate, and has its caller's colour.
      const inlined = depth > 0 && !flame.runtime[name] && !flame.names[name].includes("::");
      tones[depth] = inlined ? tones[depth - 1] : tone(name);
      const inside = start < zoom.start + zoom.width && start + width > zoom.start;
      const ancestor = depth <= zoom.depth;
      const share = ancestor ? 100 : (100 * width) / zoom.width;
      if (!inside || share < NARROWEST) continue;
      deepest = Math.max(deepest, depth);
      const box = document.createElement("button");
      box.type = "button";
      box.className = `frame ${tones[depth]}${ancestor ? " ancestor" : ""}${marks(flame.names[name]) ? " marked" : ""}`;
      box.setAttribute("role", "treeitem");
      box.dataset.testid = "frame";
      box.dataset.name = flame.names[name];
      box.dataset.depth = depth;
      const pixels = (share / 100) * root.clientWidth;
      box.textContent = pixels < 20 ? "" : pixels > flame.names[name].length * LETTER ? flame.names[name] : shortened(flame.names[name]);
      box.title = `${flame.names[name]}\n${readable(width)}, ${((100 * width) / flame.total).toFixed(2)} % · own ${readable(own)}`;
      box.style.left = `${ancestor ? 0 : (100 * (start - zoom.start)) / zoom.width}%`;
      box.style.width = `${share}%`;
      box.style.top = `${depth * ROW}px`;
      box.tabIndex = depth === 0 ? 0 : -1;
      box.addEventListener("click", () => {
        zoomTo(frame);
        showSource(flame.names[name]);
      });
      graph.append(box);
    }
    graph.style.height = `${(deepest + 1) * ROW}px`;
    root.append(bar, graph);
  };

  const zoomTo = (frame) => {
    focus = frame;
    draw();
    const boxes = [...holder().querySelectorAll(".frame")];
    (frame ? boxes.filter((box) => box.classList.contains("ancestor")).pop() : boxes[0])?.focus({ preventScroll: true });
  };

  // The function's lines, from its own page, so that its address can be handed on.
  let asked = "";
  const showSource = async (name) => {
    const place = document.getElementById("source");
    const address = new URL(place.dataset.of, location);
    address.searchParams.set("function", name);
    asked = name;
    const page = new DOMParser().parseFromString(await (await fetch(address)).text(), "text/html");
    if (asked !== name) return;
    place.replaceChildren(...page.getElementById("source").childNodes);
    history.replaceState(null, "", address);
    // What the page asks for when it asks for itself.
    document.getElementById("live")?.setAttribute("hx-get", address.pathname + address.search);
  };

  document.addEventListener("keydown", (event) => {
    const box = document.activeElement?.closest?.("#flame .frame");
    if (!box) return;
    if (event.key === "Escape") return zoomTo(null);
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    const at = box.getBoundingClientRect();
    const boxes = [...holder().querySelectorAll(".frame")].map((other) => ({ other, rect: other.getBoundingClientRect() }));
    const depth = Number(box.dataset.depth);
    const on = (level) => boxes.filter(({ other }) => Number(other.dataset.depth) === level);
    const next = {
      ArrowDown: () => on(depth + 1).filter(({ rect }) => rect.left >= at.left - 1 && rect.left < at.right).sort((a, b) => b.rect.width - a.rect.width)[0],
      ArrowUp: () => on(depth - 1).find(({ rect }) => rect.left <= at.left + 1 && rect.right >= at.right - 1),
      ArrowRight: () => on(depth).filter(({ rect }) => rect.left >= at.right - 1).sort((a, b) => a.rect.left - b.rect.left)[0],
      ArrowLeft: () => on(depth).filter(({ rect }) => rect.right <= at.left + 1).sort((a, b) => b.rect.left - a.rect.left)[0],
    }[event.key]();
    next?.other.focus();
  });

  // The page's own text holds the numbers; it changes whenever the page asks for itself again.
  const load = () => {
    const text = document.getElementById("flame-data")?.textContent;
    if (!text) return;
    if (text !== drawn) {
      // A frame stays zoomed into as long as it is still there.
      const was = focus && [focus[0], flame.names[focus[4]]];
      flame = JSON.parse(text);
      focus = (was && flame.frames.find((frame) => frame[0] === was[0] && flame.names[frame[4]] === was[1])) || null;
      drawn = text;
    }
    draw();
  };

  document.addEventListener("htmx:after:swap", load);
  load();
})();
