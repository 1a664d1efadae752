// Sorting and searching of tables, the filters by dataset and scale, and the plot. The pages read well without it.
"use strict";

const chosen = () => Object.fromEntries([...document.querySelectorAll("[data-filter]")].map(s => [s.dataset.filter, s.value]));
const matches = (node, wanted) => Object.entries(wanted).every(([name, value]) => !value || node.dataset[name] === value);

// -- tables ----------------------------------------------------------------------------------------------------------
const tables = [];

function enhance(node) {
  const table = new DataTable(node, {
    paging: "paged" in node.dataset && node.tBodies[0].rows.length > 60, pageLength: 50, order: [], autoWidth: false,
    layout: { topStart: "info", topEnd: "search", bottomStart: null, bottomEnd: "paged" in node.dataset ? "paging" : null },
    language: { search: "Search", info: "_TOTAL_ rows", infoFiltered: "of _MAX_", infoEmpty: "no rows", zeroRecords: "no row matches" },
  });
  if ("filtered" in node.dataset) tables.push(table);
}

// -- filters ---------------------------------------------------------------------------------------------------------
function filter() {
  const wanted = chosen();
  for (const table of tables) {
    table.search.fixed("place", (_, __, index) => matches(table.row(index).node(), wanted)).draw();
  }
  for (const cell of document.querySelectorAll("#overview .matrix td")) showWorst(cell, wanted);
  for (const part of document.querySelectorAll(".board, .toc li, .gallery[data-dataset]")) {
    part.toggleAttribute("data-off", !matches(part, wanted));
  }
  const active = Object.values(wanted).filter(Boolean);
  for (const output of document.querySelectorAll(".filtered")) output.value = active.length ? `only ${active.join(", ")}` : "";
  offerBoards(wanted);
}

function showWorst(cell, wanted) {
  const found = [...cell.querySelectorAll("a")].find(link => matches(link, wanted));
  for (const node of cell.children) node.hidden = node !== (found || cell.lastElementChild);
}

// -- the plot --------------------------------------------------------------------------------------------------------
const COLOURS = {
  "Below half way against every attack": "#1a6b36", "Broken by its adaptive attack": "#a3172a", "Not below half way": "#d9622b",
  "Below half way so far, but not every attack has a number": "#4fae70", "no defense": "#1b1f24",
};
const SYMBOLS = {
  "Below half way against every attack": "circle", "Broken by its adaptive attack": "x", "Not below half way": "triangle-up",
  "Below half way so far, but not every attack has a number": "diamond", "no defense": "star",
};

function offerBoards(wanted) {
  const select = document.getElementById("plot-board");
  if (!select || !window.GAUNTLET_PLOT) return;
  const kept = select.value;
  const boards = window.GAUNTLET_PLOT.map((board, index) => [board, index])
    .filter(([board]) => (!wanted.dataset || board.dataset === wanted.dataset) && (!wanted.scale || board.scale === wanted.scale));
  select.replaceChildren(...boards.map(([board, index]) => new Option(board.title, index)));
  if ([...select.options].some(option => option.value === kept)) select.value = kept;
  else if (boards.length) select.value = boards.reduce((a, b) => (b[0].points.length > a[0].points.length ? b : a))[1];
  draw(window.GAUNTLET_PLOT[select.value]);
}

function draw(board) {
  const place = document.getElementById("plot");
  if (!board) { Plotly.purge(place); return; }
  const traces = [...new Set(board.points.map(point => point.verdict))].sort().map(verdict => {
    const points = board.points.filter(point => point.verdict === verdict);
    const symbol = SYMBOLS[verdict] || "square";
    const bars = name => ({ type: "data", array: points.map(point => point[name]), thickness: 1, width: 3, color: "#8c959f" });
    return {
      type: "scatter", mode: board.points.length > 14 ? "markers" : "markers+text", name: verdict,
      x: points.map(point => point.risk), y: points.map(point => point.utility),
      error_x: bars("risk_half"), error_y: bars("utility_half"),
      text: points.map(point => point.defense), textposition: "top center", textfont: { size: 10 },
      customdata: points.map(point => [point.by, point.adaptive ? "" : "<br>no adaptive threat met", point.page]),
      hovertemplate: `<b>%{text}</b><br>${board.metric} %{x:.3f} by %{customdata[0]}<br>${board.utility} %{y:.3f}%{customdata[1]}<extra></extra>`,
      marker: { size: 11, color: COLOURS[verdict] || "#57606a", symbol: points.map(point => (point.adaptive ? symbol : symbol + "-open")), line: { width: 1.5 } },
    };
  });
  const line = (x, label) => x === null ? [] : [{ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { dash: "dot", width: 1, color: "#57606a" }, label: { text: label, textposition: "start", font: { size: 10, color: "#57606a" } } }];
  // By the points alone: the intervals of a few seeds would squeeze them together.
  const range = values => { const low = Math.min(...values), high = Math.max(...values), pad = 0.12 * (high - low) || 0.1; return [low - pad, high + pad]; };
  const lines = [board.half, board.chance].filter(value => value !== null);
  Plotly.react(place, traces, {
    margin: { l: 60, r: 20, t: 20, b: 50 }, hovermode: "closest", legend: { orientation: "h", y: -0.16 }, font: { family: "inherit" },
    xaxis: { title: { text: `worst-case ${board.metric} (risk; left is private)` }, zeroline: false, range: range([...board.points.map(point => point.risk), ...lines]) },
    yaxis: { title: { text: `${board.utility} (up is useful)` }, zeroline: false, range: range(board.points.map(point => point.utility)) },
    shapes: [...line(board.half, "half way"), ...line(board.chance, "chance")],
  }, { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
  place.removeAllListeners?.("plotly_click");
  place.on("plotly_click", event => { location.href = event.points[0].customdata[2]; });
}

// -- start -----------------------------------------------------------------------------------------------------------
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.data").forEach(enhance);
  document.querySelectorAll("[data-filter]").forEach(select => select.addEventListener("change", filter));
  document.getElementById("plot-board")?.addEventListener("change", event => draw(window.GAUNTLET_PLOT[event.target.value]));
  filter();
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) target.scrollIntoView({ block: "center" }); // tables were built after the browser had jumped there
});
