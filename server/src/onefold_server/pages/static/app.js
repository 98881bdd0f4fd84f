// What the pages do beyond HTML: say when live numbers are old, and draw the timeline.
"use strict";

// --- live numbers ---------------------------------------------------------------------
const stale = document.getElementById("stale");
if (stale) {
  for (const name of ["htmx:response:error", "htmx:error"]) {
    document.body.addEventListener(name, () => { stale.hidden = false; });
  }
  document.body.addEventListener("htmx:after:swap", () => { stale.hidden = true; });
  document.body.addEventListener("htmx:after:swap", () => {
    // The first session has come: the hint on how to send it has done its work.
    if (document.querySelector("#live tbody")) document.querySelector(".hint")?.remove();
  });
}

// --- the timeline of a session ----------------------------------------------------------
const LANE_PX = 28;
const AXIS_PX = 34;
const DAY_S = 86400;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const iso = (seconds) => new Date(seconds * 1000).toISOString();
const clock = (seconds, step) => iso(seconds).slice(11, step < 60 ? 19 : 16);
const tick = (seconds, step) => (step < DAY_S ? clock(seconds, step) : iso(seconds).slice(5, 10));
const brief = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

// One column of x for all lanes, as uPlot wants it; a lane has null where nothing happened.
function columns(timeline) {
  const xs = [...new Set(timeline.lanes.flatMap((lane) => lane.dots.map((dot) => dot[0])))];
  xs.sort((a, b) => a - b);
  const at = new Map(xs.map((x, index) => [x, index]));
  const lanes = timeline.lanes.map((lane) => {
    const counts = new Array(xs.length).fill(null);
    for (const [x, n] of lane.dots) counts[at.get(x)] = n;
    return counts;
  });
  return [xs, ...lanes];
}

// The area of a dot is its count; where a lane has no room for that, all are smaller.
function drawDots(plot, most) {
  const { ctx } = plot;
  const one = Math.min(3.5, 10 / Math.sqrt(most));
  ctx.save();
  ctx.fillStyle = colour("--accent");
  ctx.globalAlpha = 0.85;
  for (let lane = 1; lane < plot.data.length; lane += 1) {
    const y = plot.valToPos(lane - 1, "y", true);
    plot.data[lane].forEach((n, index) => {
      if (!n) return;
      const radius = Math.max(1.5, one * Math.sqrt(n));
      ctx.beginPath();
      ctx.arc(plot.valToPos(plot.data[0][index], "x", true), y, radius * uPlot.pxRatio, 0, 7);
      ctx.fill();
    });
  }
  ctx.restore();
}

function drawTimeline(box, timeline) {
  const data = columns(timeline);
  const labels = timeline.lanes.map((lane) => lane.label);
  const most = Math.max(1, ...timeline.lanes.flatMap((lane) => lane.dots.map((dot) => dot[1])));
  const height = labels.length * LANE_PX + AXIS_PX + 12;
  const moment = document.getElementById("moment");
  const resting = moment.textContent;
  const slack = Math.max((timeline.end - timeline.start) * 0.02, 1);
  const letters = box.clientWidth < 500 ? 16 : 28;
  const widest = Math.max(...labels.map((label) => brief(label, letters).length));

  const tell = (plot) => {
    const { idx } = plot.cursor;
    if (idx == null) { moment.textContent = resting; return; }
    const then = data[0][idx];
    const there = labels.flatMap((label, lane) => (data[lane + 1][idx] ? [`${label} ${data[lane + 1][idx]}`] : []));
    moment.textContent = `${clock(then, 1)} UTC: ${there.join(", ")}`;
  };
  const axis = { stroke: colour("--soft"), font: "12px system-ui, sans-serif", ticks: { show: false } };
  const line = { stroke: colour("--line"), width: 1 };

  return new uPlot({
    width: box.clientWidth,
    height,
    legend: { show: false },
    cursor: { y: false, drag: { x: false }, points: { show: false } },
    scales: {
      x: { time: false, range: [timeline.start - slack, timeline.end + slack] },
      y: { range: [-0.5, labels.length - 0.5], dir: -1 },  // the first lane on top
    },
    series: [{}, ...labels.map((label) => ({ label, paths: () => null, points: { show: false } }))],
    axes: [
      { ...axis, size: AXIS_PX, space: 60, grid: { show: false }, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, DAY_S, 2 * DAY_S, 7 * DAY_S, 30 * DAY_S],
        values: (plot, splits, index, space, step) => splits.map((x) => tick(x, step)) },
      { ...axis, font: "12px ui-monospace, Menlo, Consolas, monospace", size: widest * 7.4 + 12, grid: line,
        splits: () => labels.map((_, lane) => lane), values: () => labels.map((label) => brief(label, letters)) },
    ],
    hooks: { draw: [(plot) => drawDots(plot, most)], setCursor: [tell] },
  }, data, box);
}

const box = document.getElementById("timeline");
if (box) {
  const timeline = JSON.parse(document.getElementById("timeline-data").textContent);
  let plot = null;
  const redraw = () => { plot?.destroy(); plot = timeline.lanes.length ? drawTimeline(box, timeline) : null; };
  let width = 0;
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    redraw();
  }).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
