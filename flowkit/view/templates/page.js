"use strict";
// Every text comes from the data and goes in as text, never as HTML: names of videos are anyone's.

const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 60;
const FAILURES_PAGE = 20;

const videos = data.videos.map((row, index) =>
  Object.assign(Object.fromEntries(data.columns.map((name, k) => [name, row[k]])), { index }));

// ---- building blocks ----

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function draw(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const byId = (id) => document.getElementById(id);
const whole = (n) => n.toLocaleString("en");
const px = (value) => `${value < 10 ? value.toFixed(2) : value.toFixed(1)} px`;
const percentage = (value) => value > 0 && value < 0.001 ? "< 0.1 %" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
const plural = (n, one) => `${whole(n)} ${one}${n === 1 ? "" : "s"}`;

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (n >= 1024 && power < units.length - 1) { n /= 1024; power += 1; }
  return `${n.toFixed(power ? 1 : 0)} ${units[power]}`;
}

function duration(seconds) {
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function facts(node, entries) {
  for (const [name, value] of entries) node.append(make("dt", {}, name), make("dd", {}, String(value)));
  return node;
}

// ---- charts ----

function edgeNames() {
  const name = (edge) => edge < 1 ? `1/${Math.round(1 / edge)}` : String(edge);
  return [`< ${name(data.edges_px[0])}`, ...data.edges_px.slice(1).map((edge) => `– ${name(edge)}`),
    `≥ ${name(data.edges_px.at(-1))}`];
}

function histogram(fractions, title) {
  const width = 360, height = 170, base = height - 34, names = edgeNames();
  const slot = width / fractions.length, top = Math.max(...fractions, 1e-9);
  const chart = draw("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img", "aria-label": title });
  fractions.forEach((value, k) => {
    const tall = value / top * (base - 18), x = k * slot;
    const bar = draw("rect", { class: "bar", x: x + 2, y: base - tall, width: slot - 4, height: tall, rx: 2 });
    bar.append(draw("title", {}, `${names[k]} px: ${percentage(value)}`));
    const percent = draw("text", { x: x + slot / 2, y: base - tall - 4, "text-anchor": "middle" });
    percent.append(value >= 0.005 ? Math.round(100 * value) : "");
    const below = draw("text", { x: x + slot / 2, y: base + 14, "text-anchor": "middle" });
    below.append(names[k]);
    chart.append(bar, percent, below);
  });
  const unit = draw("text", { x: width / 2, y: height - 4, "text-anchor": "middle" });
  unit.append(`|flow|, px per step; bars in % of pixels`);
  chart.append(draw("line", { class: "axis", x1: 0, x2: width, y1: base, y2: base }), unit);
  return chart;
}

const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

function timeline(video) {
  const levels = [...video.timeline].map((letter) => LEVELS.indexOf(letter) / 63);
  const chart = draw("svg", { class: "spark", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img",
    "aria-label": "mean magnitude of flow over time" });
  if (!levels.length) return chart;
  const step = 100 / levels.length;
  const points = levels.flatMap((level, k) => [[k * step, 98 - 94 * level], [(k + 1) * step, 98 - 94 * level]]);
  chart.append(draw("path", { class: "curve", d: `M0 100L${points.map((p) => p.map((x) => x.toFixed(2)).join(" ")).join("L")}L100 100Z` }));
  for (const cut of video.cuts ?? []) {
    const x = (cut + 0.5) / video.n_flow * 100;
    chart.append(draw("line", { class: "cut", x1: x, x2: x, y1: 0, y2: 100 }));
  }
  return chart;
}

// Thumbnails are in blocks of text that nothing parses until a card of them is shown.
const blocks = new Map();

function thumbnail(video) {
  const number = Math.floor(video.index / data.thumbnails_per_block);
  if (!blocks.has(number)) {
    if (blocks.size > 200) blocks.clear();
    blocks.set(number, byId(`thumbnails-${number}`)?.textContent.trim().split(",") ?? []);
  }
  const coded = blocks.get(number)[video.index % data.thumbnails_per_block];
  const frame = make("span", { className: "shot" });
  frame.append(coded ? make("img", { alt: "", decoding: "async", src: `data:image/webp;base64,${coded}` })
    : make("span", {}, "no image"));
  return frame;
}

// ---- what is worth a look ----

const FLAGS = [
  ["problem", "cannot be read", (v) => v.problem, true],
  ["truncated", "truncated", (v) => v.status === "truncated", true],
  ["clipped", "clipped by the codec", (v) => v.clipped_fraction > 0, true],
  ["cuts", "shot cuts", (v) => v.cuts?.length > 0, false],
  ["static", "nearly static", (v) => v.static_fraction >= data.nearly_static, false],
  ["wide", `beyond ±${data.wide_px} px`, (v) => v.wide_fraction >= 0.01, false],
];

function marks(video) {
  const row = make("span", { className: "marks" });
  const add = (words, alarm) => row.append(make("span", { className: alarm ? "mark alarm" : "mark" }, words));
  if (video.label) add(video.label, false);
  for (const [name, words, applies, alarm] of FLAGS) {
    if (!applies(video)) continue;
    if (name === "cuts") add(plural(video.cuts.length, "shot cut"), alarm);
    else if (name === "wide") add(`${percentage(video.wide_fraction)} ${words}`, alarm);
    else if (name === "clipped") add(`${percentage(video.clipped_fraction)} clipped`, alarm);
    else add(words, alarm);
  }
  return row;
}

// ---- the list ----

const SORTS = [
  ["as stored", (v) => v.index, 1], ["id", (v) => v.id, 1], ["label", (v) => v.label, 1],
  ["most motion", (v) => v.mean_px, -1], ["least motion", (v) => v.mean_px, 1],
  ["largest flow", (v) => v.max_px, -1], ["most static", (v) => v.static_fraction, -1],
  ["most shot cuts", (v) => v.cuts?.length ?? 0, -1], [`most beyond ±${data.wide_px} px`, (v) => v.wide_fraction, -1],
  ["most clipped", (v) => v.clipped_fraction, -1], ["longest", (v) => v.n_frames, -1], ["shortest", (v) => v.n_frames, 1],
];

const state = { page: 0, flag: "", shown: videos };

function card(video) {
  const about = video.width
    ? `${video.width}×${video.height} · ${plural(video.n_frames, "frame")} · ${duration(video.seconds)}` : "";
  const motion = video.mean_px === null ? video.problem
    : `mean ${px(video.mean_px)} · 95 % ${px(video.p95_px)} · static ${percentage(video.static_fraction)}`;
  const node = make("button", { type: "button", className: "card", title: video.id },
    thumbnail(video),
    make("span", { className: "body" },
      make("span", { className: "name" }, video.id), make("span", { className: "line" }, about),
      make("span", { className: "line" }, motion), timeline(video), marks(video)));
  node.addEventListener("click", () => openDetail(video));
  return node;
}

function choose() {
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const label = byId("label").value, flag = FLAGS.find(([name]) => name === state.flag);
  const [, key, sign] = SORTS[byId("sort").selectedIndex];
  const shown = videos.filter((v) =>
    (!label || `=${v.label}` === label) && (!flag || flag[2](v)) &&
    words.every((word) => v.search.includes(word)));
  const rank = (v) => key(v) ?? -Infinity * sign;
  shown.sort((a, b) => sign * (rank(a) > rank(b) ? 1 : rank(a) < rank(b) ? -1 : 0) || a.index - b.index);
  Object.assign(state, { shown, page: 0 });
  show();
}

function show() {
  const first = state.page * PAGE, some = state.shown.slice(first, first + PAGE);
  byId("cards").replaceChildren(...some.map(card));
  byId("found").textContent = state.shown.length === videos.length
    ? plural(videos.length, "video") : `${whole(state.shown.length)} of ${plural(videos.length, "video")}`;
  for (const node of document.querySelectorAll("[data-pager]")) {
    pager(node, state.page, Math.ceil(state.shown.length / PAGE), (page) => { state.page = page; show(); });
  }
}

function pager(node, page, count, go) {
  const button = (words, to, name) => {
    const made = make("button", { type: "button", disabled: to < 0 || to >= count || to === page, "aria-label": name }, words);
    made.addEventListener("click", () => go(to));
    return made;
  };
  node.replaceChildren(...(count < 2 ? [] : [
    button("«", 0, "first page"), button("‹", page - 1, "previous page"),
    make("span", {}, `${whole(page + 1)} of ${whole(count)}`),
    button("›", page + 1, "next page"), button("»", count - 1, "last page")]));
}

// ---- one video ----

const half = (title, node) => make("div", {}, make("h3", {}, title), node);

function motionFacts(video) {
  const cuts = video.cuts === null ? "not looked for"
    : video.cuts.length ? `at fields ${video.cuts.join(", ")}` : "none";
  return [["mean |flow|", px(video.mean_px)], ["median", px(video.median_px)],
    ["95th percentile", px(video.p95_px)], ["largest", px(video.max_px)],
    ["static pixels", percentage(video.static_fraction)], [`beyond ±${data.wide_px} px`, percentage(video.wide_fraction)],
    ["clipped", percentage(video.clipped_fraction)], ["shot cuts", cuts]];
}

function openDetail(video) {
  const close = make("button", { type: "button", className: "close", "aria-label": "close" }, "×");
  close.addEventListener("click", () => byId("detail").close());
  const entries = data.fact_names.map((name, k) => [name, video.facts[k]])
    .filter(([, value]) => value !== undefined && value !== "" && value !== null);
  const parts = [
    make("div", { className: "top" }, make("h2", { id: "detail-title" }, video.id), close),
    thumbnail(video), marks(video)];
  const halves = make("div", { className: "halves" });
  if (video.problem) parts.push(make("p", { className: "notice" }, video.problem));
  if (video.mean_px !== null) {
    parts.push(make("h3", {}, "Mean |flow| over time, logarithmic; shot cuts in red"), timeline(video));
    halves.append(
      half("Histogram of |flow|", histogram(video.histogram.map((x) => x / 1000), "histogram of the magnitude of flow")),
      half("Motion", facts(make("dl", { className: "facts" }), motionFacts(video))));
  }
  parts.push(halves, half("Facts", facts(make("dl", { className: "facts" }), entries)));
  byId("detail").replaceChildren(...parts);
  byId("detail").showModal();
  byId("detail").scrollTop = 0;
}

// ---- the rest of the page ----

function fillHead() {
  byId("made").textContent = data.made;
  for (const [name, value, alarm] of data.tiles.map(([n, v, kind, a]) =>
    [n, kind === "bytes" ? bytes(v) : kind === "px" ? px(v) : kind === "seconds" ? duration(v) : whole(v), a])) {
    byId("tiles").append(make("div", { className: alarm ? "alarm" : "" }, make("dt", {}, name), make("dd", {}, value)));
  }
  byId("notice").hidden = !data.notice;
  byId("notice").textContent = data.notice;
  byId("histogram").append(histogram(data.histogram, "histogram of the magnitude of flow over all videos"));
  byId("motion-note").textContent = data.motion_note;
  facts(byId("options"), data.options);
}

function fillLabels() {
  const counts = new Map();
  for (const video of videos) counts.set(video.label, (counts.get(video.label) ?? 0) + 1);
  const top = Math.max(...counts.values(), 1);
  const select = byId("label");
  select.append(make("option", { value: "" }, "all"));
  for (const [label, count] of [...counts].sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
    const name = label || "(none)";
    select.append(make("option", { value: `=${label}` }, `${name} (${whole(count)})`));
    const bar = make("i");
    bar.style.width = `${100 * count / top}%`;
    const row = make("button", { type: "button", className: "label-row", title: name },
      make("span", {}, name), make("span", { className: "track" }, bar), make("span", {}, whole(count)));
    row.addEventListener("click", () => {
      select.value = `=${label}`;
      choose();
      byId("videos-title").scrollIntoView();
    });
    byId("labels").append(row);
  }
}

function fillFailures() {
  byId("failed").hidden = !data.failures.length;
  const counts = new Map();
  for (const [reason] of data.failures) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  byId("failed-title").textContent = plural(data.failures.length, "failure");
  for (const [reason, count] of [...counts].sort((a, b) => b[1] - a[1])) {
    byId("reasons").append(make("span", { className: "chip" }, `${reason} ${whole(count)}`));
  }
  const turn = (page) => {
    const rows = data.failures.slice(page * FAILURES_PAGE, (page + 1) * FAILURES_PAGE);
    byId("failures").replaceChildren(...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell)))));
    pager(byId("failures-pager"), page, Math.ceil(data.failures.length / FAILURES_PAGE), turn);
  };
  turn(0);
}

function fillControls() {
  byId("sort").append(...SORTS.map(([name]) => make("option", {}, name)));
  for (const [name, words, applies] of FLAGS) {
    const count = videos.filter(applies).length;
    if (!count) continue;
    const chip = make("button", { type: "button", className: "chip", "aria-pressed": "false" }, `${words} ${whole(count)}`);
    chip.addEventListener("click", () => {
      state.flag = state.flag === name ? "" : name;
      for (const other of byId("flags").children) other.setAttribute("aria-pressed", String(other === chip && state.flag === name));
      choose();
    });
    byId("flags").append(chip);
  }
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").addEventListener("input", choose);
  byId("detail").addEventListener("click", (event) => {
    if (event.target === byId("detail")) byId("detail").close();
  });
}

for (const video of videos) video.search = `${video.id} ${video.label}`.toLowerCase();
fillHead();
fillLabels();
fillFailures();
fillControls();
show();
