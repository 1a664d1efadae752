// The ranking of a board under the threats and the loss of utility that the reader chooses; the same as runners/report/ranking.py.
"use strict";

{ // names of its own, beside those of site.js

const SLACK = 1e-12, TAIL = 0.025;
const sorted = (numbers, key = value => value) => [...numbers].sort((a, b) => key(a) - key(b));
const mean = risk => { const seeds = sorted(Object.keys(risk).map(Number)); return seeds.reduce((sum, seed) => sum + risk[seed], 0) / seeds.length; };

// -- the paired bootstrap ---------------------------------------------------------------------------------------------
function* compositions(total, parts) {
  if (parts === 1) { yield [total]; return; }
  for (let first = 0; first <= total; first++) for (const rest of compositions(total - first, parts - 1)) yield [first, ...rest];
}
const factorial = n => n < 2 ? 1 : n * factorial(n - 1);
const resamples = n => [...compositions(n, n)].map(counts => [factorial(n) / counts.map(factorial).reduce((a, b) => a * b, 1) / n ** n, counts]);

function differ(a, b, stretch) {
  const shared = [...a, ...b].map(risk => new Set(Object.keys(risk))).reduce((x, y) => new Set([...x].filter(seed => y.has(seed))));
  const seeds = sorted([...shared].map(Number)), n = seeds.length;
  if (n < 2) return null;
  const greatest = (risks, counts) => Math.max(...risks.map(risk => seeds.reduce((sum, seed, i) => sum + risk[seed] * counts[i] / n, 0)));
  const gap = counts => greatest(a, counts) - greatest(b, counts);
  const drawn = sorted(resamples(n).map(([chance, counts]) => [gap(counts), chance]), ([value]) => value);
  const percentile = level => { let reached = 0; for (const [value, chance] of drawn) { reached += chance; if (reached >= level - SLACK) return value; } return drawn.at(-1)[0]; };
  const centre = gap(seeds.map(() => 1)), end = level => centre + stretch[n] * (percentile(level) - centre);
  return end(TAIL) > SLACK || end(1 - TAIL) < -SLACK;
}

// -- the ranking ------------------------------------------------------------------------------------------------------
function judged(entrant, faced, mostLost) {
  const asked = faced.filter(index => index in entrant.met);
  const known = asked.filter(index => Object.keys(entrant.met[index].risk).length);
  let worst = null, index = null;
  for (const one of known) { const reached = mean(entrant.met[one].risk); if (worst === null || reached > worst) [worst, index] = [reached, one]; }
  const complete = asked.length > 0 && asked.every(one => entrant.met[one].whole);
  const affordable = entrant.kind !== "defense" || mostLost === null || (entrant.lost !== null && entrant.lost <= mostLost);
  return { entrant, asked, worst, index, complete, affordable, place: null, tied: false, front: false };
}

const ranks = one => one.entrant.kind === "defense" && one.complete && one.affordable;
const group = one => !one.affordable ? 3 : one.worst === null ? 2 : one.complete ? 0 : 1;
const point = one => one.entrant.kind === "control" || !one.complete || !one.affordable || one.worst === null || one.entrant.lost === null
  ? null : [one.worst, one.entrant.lost];

function rank(contest, threats, mostLost) {
  const faced = contest.attacks.map((attack, index) => [attack, index]).filter(([attack]) => threats.has(attack.threat)).map(([, index]) => index);
  const all = contest.entrants.map(entrant => judged(entrant, faced, mostLost));
  const name = one => one.entrant.defense;
  all.sort((a, b) => group(a) - group(b) || (a.worst ?? 0) - (b.worst ?? 0) || (name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : 0));
  const best = all.find(ranks);
  if (!best) return all;
  const risks = one => one.asked.map(index => one.entrant.met[index].risk);
  let place = 0;
  for (const one of all) {
    if (ranks(one)) { one.place = ++place; one.tied = one !== best && differ(risks(best), risks(one), contest.stretch) === false; }
    const own = point(one);
    one.front = own !== null && !all.some(other => {
      const rival = other === one ? null : point(other);
      return rival && rival[0] <= own[0] && rival[1] <= own[1] && (rival[0] !== own[0] || rival[1] !== own[1] || other.entrant.kind === "none");
    });
  }
  return all;
}

// -- text, as in runners/report/board_text.py -------------------------------------------------------------------------
const number = value => (value + 0).toFixed(Math.abs(value) < 10 ? 3 : 1).replace(/^-(0(\.0*)?)$/, "$1");
const range = (value, half, told) => half === null || half === undefined ? told(value) : `${told(value)} ± ${told(half)}`;
const percent = share => share === null || share === undefined ? "–" : share > -0.005 ? `${Math.round(100 * share)} %` : "< 0 %";

function texts(contest, one) {
  const { entrant, index } = one, met = index === null ? null : entrant.met[index], attack = index === null ? null : contest.attacks[index];
  const several = new Set(contest.attacks.map(each => each.protocol)).size > 1;
  const inUnit = value => contest.fraction ? (100 * value).toFixed(1).replace(/^-(0\.0)$/, "$1") : value.toFixed(3);
  return [
    one.place === null ? "–" : `${one.tied ? "≈ " : ""}${one.place}`,
    one.worst === null ? "–" : `${one.complete ? "" : "≥ "}${range(one.worst, met.half, number)}`,
    attack && entrant.kind !== "control" ? attack.label : "–",
    attack ? (several ? attack.protocol : "all") : "–",
    met && met.bare !== null ? number(met.bare) : "–",
    percent(met && met.share),
    entrant.lost === null ? "–" : range(entrant.lost, entrant.lost_half, inUnit),
    one.front ? "yes" : one.affordable ? "" : "loses too much",
  ];
}

// -- the page ---------------------------------------------------------------------------------------------------------
function chosen(form, contest) {
  const address = new URLSearchParams(location.hash.slice(1));
  const known = new Set(contest.attacks.map(attack => attack.threat));
  const wanted = address.has("threats") ? address.get("threats").split(",").filter(threat => known.has(threat)) : [...known];
  for (const box of form.querySelectorAll("[name=threat]")) box.checked = wanted.includes(box.value);
  if (address.has("max-utility-loss")) form.elements.limit.value = Math.min(form.elements.limit.max, address.get("max-utility-loss"));
}

function refresh(form, contest, rows) {
  const boxes = [...form.querySelectorAll("[name=threat]")], threats = new Set(boxes.filter(box => box.checked).map(box => box.value));
  const slider = form.elements.limit, unlimited = slider.value === slider.max, limit = unlimited ? null : Number(slider.value);
  const standings = rank(contest, threats, limit);
  form.elements.told.value = unlimited ? "any" : contest.fraction ? `${(100 * limit).toFixed(1)} points` : String(limit);
  for (const one of standings) {
    const row = rows.get(`${one.entrant.kind} ${one.entrant.defense}`);
    const [place, ...rest] = texts(contest, one);
    const cells = row.querySelectorAll("td");
    [place, ...rest].forEach((text, i) => { cells[i].textContent = text; });
    row.className = [one.entrant.kind, one.front && "front", !one.affordable && "dear", !one.complete && "open"].filter(Boolean).join(" ");
    row.parentNode.append(row);
  }
  const address = new URLSearchParams();
  if (threats.size < boxes.length) address.set("threats", [...threats].join(","));
  if (!unlimited) address.set("max-utility-loss", slider.value);
  const text = address.toString().replaceAll("%2C", ",");
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  const flags = [threats.size < boxes.length && `--threats ${[...threats].join(",")}`, !unlimited && `--max-utility-loss ${slider.value}`].filter(Boolean);
  document.getElementById("command").textContent = [`gauntlet board ${form.dataset.board}`, ...flags].join(" ");
  if (window.Plotly) plot(contest, standings);
}

const LOOKS = { front: ["#1a6b36", "circle"], defense: ["#57606a", "circle-open"], none: ["#1b1f24", "star"] };

function plot(contest, standings) {
  const shown = standings.filter(one => one.entrant.kind !== "control" && one.worst !== null && one.entrant.lost !== null && one.affordable);
  const looks = one => LOOKS[one.entrant.kind === "none" ? "none" : one.front ? "front" : "defense"];
  const front = sorted(shown.filter(one => one.front), one => one.worst);
  const marked = shown.filter(one => one.front || one.entrant.kind === "none" || shown.length < 15);
  const scale = contest.fraction ? 100 : 1;
  Plotly.react(document.getElementById("ranking-plot"), [
    { type: "scatter", mode: "lines", x: front.map(one => one.worst), y: front.map(one => -scale * one.entrant.lost), line: { color: "#1a6b36", width: 1, dash: "dot", shape: "hv" }, hoverinfo: "skip", showlegend: false },
    {
      type: "scatter", mode: "markers+text", showlegend: false, x: shown.map(one => one.worst), y: shown.map(one => -scale * one.entrant.lost),
      text: shown.map(one => marked.includes(one) ? (one.entrant.kind === "none" ? "no defense" : one.entrant.defense) : ""), textposition: shown.map((_, index) => index % 2 ? "bottom center" : "top center"), textfont: { size: 10 }, cliponaxis: false,
      customdata: shown.map(one => [one.entrant.defense, contest.attacks[one.index].label]),
      hovertemplate: `<b>%{customdata[0]}</b><br>${contest.metric} %{x:.3f} by %{customdata[1]}<br>%{y:.3g} ${contest.utility}<extra></extra>`,
      marker: { size: 11, color: shown.map(one => looks(one)[0]), symbol: shown.map(one => looks(one)[1]), line: { width: 1.5 } },
    },
  ], {
    margin: { l: 60, r: 70, t: 20, b: 50 }, hovermode: "closest", font: { family: "inherit" },
    xaxis: { title: { text: `worst-case ${contest.metric} (left is private)` }, zeroline: false },
    yaxis: { title: { text: `change of ${contest.utility}${contest.fraction ? " in points" : ""} (up is useful)` }, zeroline: false },
  }, { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
}

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("faced"), data = document.getElementById("contest");
  if (!form || !data) return;
  const contest = JSON.parse(data.textContent);
  const rows = new Map([...document.querySelectorAll("#ranking tbody tr")].map(row => [`${row.dataset.kind} ${row.dataset.defense}`, row]));
  form.hidden = false;
  chosen(form, contest);
  form.addEventListener("input", () => refresh(form, contest, rows));
  form.addEventListener("reset", () => setTimeout(() => refresh(form, contest, rows)));
  addEventListener("hashchange", () => { if (/threats|max-utility-loss/.test(location.hash)) { chosen(form, contest); refresh(form, contest, rows); } });
  refresh(form, contest, rows);
});

}
