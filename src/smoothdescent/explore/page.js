"use strict";
// Chooses what Plotly draws. What is chosen is kept in the address, so that a link shows the same.

const content = JSON.parse(document.getElementById("content").textContent);
const RUN_COLUMNS = {
  train_loss_all: "training loss (nats)", train_error: "training error (%)",
  test_error: "test error (%)", test_loss: "test loss (nats)",
};
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const state = Object.fromEntries(new URLSearchParams(location.hash.replace(/^#[^&=]*(&|$)/, "")));
const element = (id) => document.getElementById(id);
const current = () => content.experiments.find((e) => e.name === state.experiment);

function keep() {
  const words = new URLSearchParams(state).toString();
  history.replaceState(null, "", "#view&" + words);
}

// Offers a choice of `options` ([value, text] pairs) and makes the first one the default.
function choice(parent, key, title, options) {
  const values = options.map(([value]) => String(value));
  if (!values.includes(state[key])) state[key] = values[0];
  const label = document.createElement("label");
  const select = document.createElement("select");
  label.append(title, select);
  select.id = key;
  for (const [value, text] of options) select.add(new Option(text, value, false, String(value) === state[key]));
  select.onchange = () => { state[key] = select.value; draw(); };
  element(parent).append(label);
}

function choices() {
  for (const id of ["top", "choices", "run-choices"]) element(id).replaceChildren();
  choice("top", "experiment", "Experiment", content.experiments.map((e) => [e.name, e.name]));
  const e = current();
  choice("choices", "measure", "Quantity", Object.entries(e.quantities).map(([k, q]) => [k, q.title]));
  choice("choices", "x", "Over", [["width", "base widths"], ["epoch", "epochs"]]);
  const curves = state.x === "width" ? e.final : e.courses;
  const subsets = new Set(curves.filter((c) => c.measure === state.measure).map((c) => c.subset));
  choice("choices", "subset", "Samples", ["all", "clean", "noisy"].filter((s) => subsets.has(s)).map((s) => [s, s]));
  if (state.x === "width") {
    const epochs = new Set(courses(e).flatMap((c) => c.x));
    const sorted = [...epochs].sort((a, b) => a - b);
    choice("choices", "epoch", "At", [["end", "end of training"], ...sorted.map((n) => [n, "epoch " + n])]);
    const found = new Set(finals(e).map((c) => c.volume));
    const volumes = e.volumes.filter((v) => found.has(v.volume)).map((v) => [v.volume, v.name]);
    const several = state.epoch === "end" && volumes.length > 1;
    choice("choices", "volume", "Volume", several ? [["all", "all volumes"], ...volumes] : [["all", volumes[0][1]]]);
  } else {
    choice("choices", "width", "Widths", [["all", "all widths"], ...Object.keys(e.widths).map((w) => [w, "w = " + w])]);
  }
  choice("choices", "axis", "Axis", [["linear", "linear"], ["log", "logarithmic"]]);
  const known = Object.keys(RUN_COLUMNS).filter((k) => e.runs.some((r) => k in r.columns));
  choice("run-choices", "run_column", "Quantity", known.map((k) => [k, RUN_COLUMNS[k]]));
  choice("run-choices", "run_width", "Widths", [["all", "all widths"], ...Object.keys(e.widths).map((w) => [w, "w = " + w])]);
  choice("run-choices", "run_axis", "Axis", [["linear", "linear"], ["log", "logarithmic"]]);
}

const finals = (e) => e.final.filter((c) => c.measure === state.measure && c.subset === state.subset);
const courses = (e) => e.courses.filter((c) => c.measure === state.measure && c.subset === state.subset);

// The values of one epoch over widths.
function atEpoch(e, epoch) {
  const curve = { volume: 0, x: [], y: [], std: [], seeds: [] };
  for (const c of courses(e)) {
    const i = c.x.indexOf(epoch);
    if (i < 0) continue;
    curve.x.push(c.width);
    for (const key of ["y", "std", "seeds"]) curve[key].push(c[key][i]);
  }
  return [curve];
}

// A line with its band; numbers under the pointer.
function lines(curve, name, colour, x) {
  const known = curve.x.map((_, i) => i).filter((i) => curve.y[i] !== null && curve.std[i] !== null);
  // A logarithmic axis has no place for what is not positive.
  const low = known.map((i) => (state.axis === "log" ? Math.max(curve.y[i] - curve.std[i], curve.y[i] / 10) : curve.y[i] - curve.std[i]));
  const high = known.map((i) => curve.y[i] + curve.std[i]);
  const xs = known.map((i) => curve.x[i]);
  const band = {
    x: [...xs, ...xs.slice().reverse()], y: [...high, ...low.reverse()], fill: "toself",
    fillcolor: colour, opacity: 0.16, line: { width: 0 }, mode: "lines", hoverinfo: "skip",
    showlegend: false, legendgroup: name,
  };
  const line = {
    x: curve.x, y: curve.y, name, legendgroup: name, mode: "lines+markers", line: { color: colour },
    marker: { size: 6 }, customdata: curve.x.map((_, i) => [curve.std[i], curve.seeds[i]]),
    hovertemplate: x + " %{x}: %{y:.4g} ± %{customdata[0]:.2g}, %{customdata[1]} seeds<extra>" + name + "</extra>",
  };
  return known.length ? [band, line] : [line];
}

function layout(x, y, logarithmic, logX, threshold) {
  const plain = { gridcolor: "#ececec", zeroline: false };
  return {
    margin: { l: 58, r: 12, t: 26, b: 44 }, hovermode: "closest", dragmode: false,
    font: { size: 13, family: "system-ui, sans-serif", color: "#1c1c1c" },
    xaxis: { ...plain, title: { text: x }, type: logX ? "log" : "linear", ...(logX && { dtick: 1 }) },
    yaxis: { ...plain, title: { text: y }, type: logarithmic ? "log" : "linear", rangemode: "normal", exponentformat: "power" },
    legend: { orientation: "h", y: 1.1, yanchor: "bottom" },
    shapes: threshold === null ? [] : [{
      type: "line", yref: "paper", x0: threshold, x1: threshold, y0: 0, y1: 1, line: { dash: "dot", width: 1.5, color: "#555" },
    }],
    annotations: threshold === null ? [] : [{
      x: logX ? Math.log10(threshold) : threshold, y: 1, yref: "paper", yanchor: "bottom", showarrow: false, text: "w = " + threshold,
    }],
  };
}

// Every width on the axis, as long as there is room.
function widthAxis(figure, e) {
  const widths = Object.keys(e.widths).map(Number);
  const step = Math.ceil(widths.length / 12);
  const shown = widths.filter((_, i) => i % step === 0);
  Object.assign(figure.xaxis, { tickmode: "array", tickvals: shown, ticktext: shown.map(String) });
  delete figure.xaxis.dtick;
  return figure;
}

function drawCurves(e) {
  const about = e.quantities[state.measure];
  let traces;
  let figure;
  if (state.x === "width") {
    const curves = state.epoch === "end" ? finals(e) : atEpoch(e, Number(state.epoch));
    const shown = e.volumes.filter((v) => state.volume === "all" || String(v.volume) === state.volume);
    traces = shown.slice().reverse().flatMap((v) =>
      curves.filter((c) => c.volume === v.volume).flatMap((c) => lines(c, "volume " + v.volume, v.colour, "w")));
    figure = widthAxis(layout("base width w", about.label, state.axis === "log", true, e.threshold), e);
  } else {
    traces = courses(e).filter((c) => state.width === "all" || String(c.width) === state.width).flatMap((c) =>
      lines(c, "w = " + c.width + (c.width === e.threshold ? " (threshold)" : ""), e.widths[c.width], "epoch"));
    figure = layout("epoch", about.label, state.axis === "log", true, null);
  }
  Plotly.react("plot", traces, figure, CONFIG);
}

function drawRuns(e) {
  const runs = e.runs.filter((r) => state.run_width === "all" || String(r.width) === state.run_width);
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const seeds = [...new Set(e.runs.map((r) => r.seed))];
  const traces = runs.map((r) => ({
    x: r.epoch, y: r.columns[state.run_column], name: "w = " + r.width, legendgroup: r.width, mode: "lines",
    showlegend: r.seed === seeds[0], line: { color: e.widths[r.width], width: 1.4, dash: dashes[seeds.indexOf(r.seed) % 4] },
    hovertemplate: "epoch %{x}: %{y:.4g}<extra>w" + r.width + "_s" + r.seed + "</extra>",
  }));
  Plotly.react("runs", traces, layout("epoch", RUN_COLUMNS[state.run_column], state.run_axis === "log", false, null), CONFIG);
}

function drawVerdict() {
  const table = element("findings");
  table.replaceChildren(...content.verdict.map((f, i) => {
    const row = table.insertRow();
    row.dataset.finding = i;
    row.tabIndex = 0;
    row.setAttribute("aria-selected", String(i) === state.finding);
    row.insertCell().textContent = f.number;
    const text = row.insertCell();
    const where = document.createElement("small");
    where.textContent = f.experiment;
    text.append(f.statement, document.createElement("br"), where);
    const result = document.createElement("b");
    result.className = "r " + f.result;
    result.textContent = f.result;
    row.insertCell().append(result);
    row.onclick = () => { state.finding = String(i); draw(); element("verdict").scrollIntoView(); };
    row.onkeydown = (event) => { if (event.key === "Enter") row.onclick(); };
    return row;
  }));
  const finding = content.verdict[state.finding];
  element("decides").hidden = !finding || finding.curve_x.length < 2;
  element("why").textContent = finding ? `${finding.number}, ${finding.experiment}: ${finding.result}. ${finding.reason} Rule: ${finding.rule}` : "";
  element("drawn").textContent = element("decides").hidden ? "" : finding.curve_label;
  if (element("decides").hidden) return;
  const e = content.experiments.find((other) => other.name === finding.experiment);
  const trace = { x: finding.curve_x, y: finding.curve_y, mode: "lines+markers", hovertemplate: "w %{x}: %{y:.4g}<extra></extra>" };
  const figure = layout("base width w", "", false, true, e ? e.threshold : null);
  figure.yaxis.title = { text: "mean over seeds" };
  Plotly.react("decides", [trace], e ? widthAxis(figure, e) : figure, CONFIG);
}

function card(g, image) {
  const box = document.createElement("div");
  box.className = "card";
  const path = document.createElement("div");
  path.className = "path";
  image.path.forEach((source, k) => {
    const picture = new Image();
    picture.src = source;
    picture.alt = picture.title = k ? "strength " + image.strengths[k] : "the training image";
    path.append(picture);
  });
  const words = document.createElement("p");
  const label = image.is_noisy ? `given “${image.label}”, true “${image.label_true}”` : `“${image.label}”`;
  words.textContent = `sample ${image.sample_id}, ${label}; Jacobian norm ${g.ranked_by[image.sample_id]}`;
  const plot = document.createElement("div");
  plot.className = "plot";
  box.append(path, words, plot);
  return [box, plot];
}

function drawGallery(e) {
  const g = content.galleries[e.name];
  element("images").replaceChildren();
  element("ranking").textContent = g
    ? `Training images around which the loss is sharpest and flattest, by the Jacobian norm over the largest volume in run ${g.run} at epoch ${g.epoch}. Each is followed by its augmentations along one path; below, the cross-entropy over each volume in the narrowest network, in this one and in the widest.`
    : "This page was made without the images.";
  if (!g) return;
  const groups = [["Sharpest", g.images.slice(0, g.sharpest)], ["Flattest", g.images.slice(g.sharpest)]];
  for (const [title, images] of groups) {
    const heading = document.createElement("h3");
    heading.textContent = title;
    const cards = document.createElement("div");
    cards.className = "cards";
    element("images").append(heading, cards);
    for (const image of images) {
      const [box, plot] = card(g, image);
      cards.append(box);
      const traces = g.losses.map((l) => ({
        y: l.loss[image.sample_id], name: "w = " + l.width, mode: "lines+markers", line: { color: e.widths[l.width] },
        hovertemplate: "volume %{x}: %{y:.3g}<extra>w = " + l.width + "</extra>",
      }));
      const figure = layout("volume", "cross-entropy (nats)", false, false, null);
      Object.assign(figure, { margin: { l: 42, r: 4, t: 4, b: 30 }, font: { size: 11 } });
      figure.legend = { orientation: "h", y: 1.02, yanchor: "bottom" };
      figure.margin.t = 24;
      Plotly.newPlot(plot, traces, figure, { ...CONFIG, displayModeBar: false });
    }
  }
}

let shownGallery = null;

function draw() {
  choices();
  const e = current();
  element("about").textContent = `${e.title}; ${Object.keys(e.widths).length} widths, ${e.seeds} seeds. ` +
    (e.threshold === null ? "" : `Interpolation threshold w = ${e.threshold}.`);
  element("notes").replaceChildren(...e.notes.map((text) => Object.assign(document.createElement("p"), { textContent: text })));
  drawCurves(e);
  drawRuns(e);
  drawVerdict();
  if (shownGallery !== e.name) drawGallery(e);
  shownGallery = e.name;
  keep();
}

document.querySelectorAll("nav a").forEach((link) => {
  link.onclick = (event) => { event.preventDefault(); element(link.hash.slice(1)).scrollIntoView(); };
});
draw();
document.body.dataset.ready = "yes";
