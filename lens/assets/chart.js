// Draws the charts of the metrics page with uPlot; exemplars are links to their traces.
"use strict";
(() => {
  const COLOURS = 10;
  const HEIGHT = 230;
  let plots = [];
  let drawn = "";

  // A canvas takes no variables: the browser resolves them, theme and all, on an element.
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const colour = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };

  const three = (value) => {
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size < 0.001) return value.toExponential(1);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(3)));
  };
  const scaled = (value, steps) => {
    const [unit, by] = steps.find(([, by]) => Math.abs(value) >= by) || steps[steps.length - 1];
    return `${three(value / by)} ${unit}`;
  };
  const seconds = (value) => (value === 0 ? "0 s" : scaled(value, [["min", 60], ["s", 1], ["ms", 1e-3], ["µs", 1e-6], ["ns", 1e-9]]));
  const bytes = (value) => scaled(value, [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]]);
  const format = (unit) => {
    if (unit === "s") return seconds;
    if (unit === "ms") return (value) => seconds(value / 1e3);
    if (unit === "By") return bytes;
    if (unit === "By/s") return (value) => `${bytes(value)}/s`;
    if (unit === "/s") return (value) => `${three(value)}/s`;
    if (unit === "" || unit === "1" || unit.startsWith("{")) return three;
    return (value) => `${three(value)} ${unit}`;
  };

  const empty = (chart) => chart.lines.every((line) => line.values.every((value) => value === null));

  // A service has the colour it has on every page.
  const colourOf = (line, place, services) => {
    const known = services.indexOf(line.label);
    return colour(`--s${(known >= 0 ? known : place) % COLOURS}`);
  };

  const draw = (holder, chart, range) => {
    const figure = document.createElement("figure");
    figure.className = "chart";
    figure.dataset.testid = `chart-${chart.id}`;
    const caption = document.createElement("figcaption");
    caption.innerHTML = "<b></b> <span class=faint></span>";
    caption.firstElementChild.textContent = chart.title;
    const notes = [];
    if (chart.exemplars.length) notes.push(`${chart.exemplars.length} exemplars: each dot opens its trace`);
    if (chart.more) notes.push(`the ${chart.lines.length} largest of ${chart.lines.length + chart.more}`);
    caption.lastElementChild.textContent = notes.join(" · ");
    figure.append(caption);
    holder.append(figure);
    if (empty(chart) && !chart.exemplars.length) {
      const note = document.createElement("p");
      note.className = "faint";
      note.textContent = "Nothing in this range.";
      figure.append(note);
      return;
    }

    const value = format(chart.unit);
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line-soft"), width: 1 }, ticks: { show: false }, font: "11px Inter, sans-serif" };
    // A long unit needs more room beside the axis than most.
    const room = (plot, values) => {
      plot.ctx.font = axis.font;
      return Math.max(66, ...(values ?? []).map((text) => 16 + plot.ctx.measureText(text).width));
    };
    // Between points of a sparse line nothing is known, but a lone point must be seen.
    const points = { show: (plot, series) => plot.data[series].filter((value) => value !== null).length < 3, size: 5 };
    const options = {
      width: holder.clientWidth - 2,
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
      cursor: { sync: { key: "lens" }, points: { size: 6 }, drag: { x: true, y: false, setScale: false } },
      legend: { live: true },
      scales: {
        x: { range: [range.from, range.to] },
        y: { range: (plot, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 0, ...chart.exemplars.map((dot) => dot.value), 0) * 1.08 || 1] },
      },
      axes: [
        { ...axis, size: 30, values: (plot, splits) => splits.map((at) => new Date(at * 1e3).toISOString().slice(11, range.to - range.from > 900 ? 16 : 19)) },
        { ...axis, size: room, values: (plot, splits) => splits.map(value) },
      ],
      series: [
        { label: "UTC", value: (plot, at) => (at == null ? "" : new Date(at * 1e3).toISOString().slice(11, 19)) },
        ...chart.lines.map((line, place) => ({
          label: line.label,
          stroke: colourOf(line, place, range.services),
          width: 1.6,
          points,
          fill: chart.lines.length === 1 ? colourOf(line, place, range.services).replace("rgb(", "rgba(").replace(")", ", 0.1)") : undefined,
          value: (plot, at, series, index) => {
            const bucket = line.buckets?.[index];
            return at == null ? "–" : bucket ? `${value(at)} (${bucket})` : value(at);
          },
        })),
      ],
      hooks: { setSelect: [(plot) => plot.select.width > 4 && window.lensZoom(plot.posToVal(plot.select.left, "x") * 1e3, plot.posToVal(plot.select.left + plot.select.width, "x") * 1e3)], draw: [(plot) => place(plot, chart.exemplars, value)] },
    };
    plots.push(new uPlot(options, [chart.times, ...chart.lines.map((line) => line.values)], figure));
  };

  // Exemplars as real links over the plot, so that they take the keyboard's focus.
  const place = (plot, exemplars, value) => {
    plot.over.querySelectorAll("a.exemplar").forEach((dot) => dot.remove());
    for (const exemplar of exemplars) {
      const dot = document.createElement("a");
      dot.className = "exemplar";
      dot.dataset.testid = "exemplar";
      dot.href = `/traces/${exemplar.trace_id}#span-${exemplar.span_id}`;
      dot.title = `${value(exemplar.value)}, trace ${exemplar.trace_id}`;
      dot.setAttribute("aria-label", `Exemplar of ${value(exemplar.value)}`);
      dot.style.left = `${plot.valToPos(exemplar.time, "x")}px`;
      dot.style.top = `${plot.valToPos(exemplar.value, "y")}px`;
      plot.over.append(dot);
    }
  };

  const load = async () => {
    const holder = document.getElementById("charts");
    if (!holder) return;
    const source = holder.dataset.src;
    if (source !== drawn) holder.setAttribute("aria-busy", "true");
    const answer = await fetch(source);
    const data = await answer.json();
    if (source !== holder.dataset.src) return;
    holder.removeAttribute("aria-busy");
    if (!answer.ok) {
      holder.textContent = data.detail;
      return;
    }
    drawn = source;
    const focused = document.activeElement?.closest("#charts a.exemplar")?.href;
    const height = holder.offsetHeight;
    holder.style.minHeight = `${height}px`;
    plots.forEach((plot) => plot.destroy());
    plots = [];
    holder.replaceChildren();
    for (const chart of data.charts) draw(holder, chart, data);
    holder.style.minHeight = "";
    if (focused) [...holder.querySelectorAll("a.exemplar")].find((dot) => dot.href === focused)?.focus();
  };

  const hovered = () => document.querySelector("#charts:hover");
  document.body.addEventListener("lens:tick", () => hovered() || load());
  document.addEventListener("htmx:after:swap", () => document.getElementById("charts")?.dataset.src !== drawn && load());
  document.addEventListener("lens:theme", load);
  let resized;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(load, 150);
  });
  // The axes are drawn on a canvas, which does not wait for the font.
  document.fonts.ready.then(load);
})();
