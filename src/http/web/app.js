// The page: what is asked for when the view changes or time passes, and where the answers go. Read `go` (the view changes)
// and `load` (what that asks for) first.

import { Refused, ask, objects, whereOf, windowOf } from './api.js';
import { $, announce, el, fill } from './dom.js';
import { between, classesOf, clock, count, instant, iso, kindsOf, percent, shown, span } from './format.js';
import { controls, showControls } from './controls.js';
import { Matrix } from './matrix.js';
import { build, facts, reasonsOf } from './panel.js';
import { METRICS, palette, scale } from './scale.js';
import { Timeline } from './timeline.js';
import { POINTS, link, parse, stepOf, up, write } from './view.js';

const AGAIN = 5000, EXTENT_AGE = 60_000; // milliseconds

let view = parse(location.hash);
let extent = null, extentAt = 0, newest = null, interval = 10;
let answer = null; // the matrix as last answered
let probers = [];
let panelFor = null; // what the panel shows, without its time
const running = new Map();

const axes = () => ({ rows: view.rows ?? extent?.suggested?.rows ?? 'src_ip', columns: view.columns ?? extent?.suggested?.columns ?? 'dst_ip' });
/// Length of the timeline: an hour, or less while nothing older is there.
const rangeOf = () => view.range ?? (newest !== null && newest - instant(extent?.oldest ?? '') < 900_000 ? 900 : 3600);
const seconds = () => view.span ?? stepOf(rangeOf(), interval);
const end = () => view.at ?? newest;
const shownWindow = () => ({ from: end() - Math.max(seconds(), interval) * 1000, to: end() });

/// The timeline's edges: they stand still while its right edge is given or the instant chosen lies in it.
let pinned = null;
function timelineOf() {
  const length = rangeOf() * 1000;
  let to = view.end ?? (view.at === null ? newest : pinned && view.at <= pinned && view.at > pinned - length ? pinned : Math.min(newest, view.at + length / 2));
  if (view.at !== null && view.end === null) { if (view.at > newest - length) to = Math.max(to, Math.min(newest, pinned ?? newest)); pinned = to; } else pinned = to;
  return { from: to - length, to };
}

const keyOf = (name) => extent?.keys?.find((key) => key.name === name);
const several = (name) => keyOf(name)?.count > 1;

/// The class of a cell; null where several may be joined in it.
function classOf(row, column) {
  const { rows, columns } = axes(), chosen = view.where.filter(([key]) => key === 'dscp'), all = keyOf('dscp');
  const dscp = rows === 'dscp' ? row : columns === 'dscp' ? column : chosen.length === 1 ? chosen[0][1] : all?.count === 1 ? all.values[0] : null;
  return dscp === null || dscp === '' ? null : Number(dscp);
}

// ---------------------------------------------------------------- the view

/// Changes the view. `replace`: without a step in the browser's history; `gentle`: what is under way is awaited.
function go(changes, { replace = false, gentle = false } = {}) {
  const before = view, next = { ...view, ...changes };
  if (next.at !== null && next.range === null) next.range = rangeOf(); // the window of an instant stays what it is
  if (write(next) === write(view)) return;
  view = next;
  const url = write(view);
  if (replace || scrubbing) history.replaceState(null, '', url); else history.pushState(null, '', url);
  changed(before, gentle);
}

let scrubbing = false;
addEventListener('popstate', () => {
  const before = view;
  view = parse(location.hash);
  changed(before, false);
});

function changed(before, gentle) {
  controlsShown();
  const same = (names) => names.every((name) => JSON.stringify(before[name]) === JSON.stringify(view[name]));
  const where = !same(['where']);
  const axesChanged = !same(['rows', 'columns']);
  if (view.at !== before.at && view.at === null) reconnect();
  if (where || axesChanged || !same(['at', 'span', 'range', 'against'])) load('matrix', gentle); else drawMatrix();
  if (where || !same(['range', 'end', 'metric']) || view.at !== before.at) loadTimeline(where, gentle);
  if (!same(['at', 'span', 'range'])) load('probers', gentle);
  load('panel', gentle);
}

// ---------------------------------------------------------------- asking

/// Runs `work`, the newest of its name: what is under way is given up, or awaited when `gentle`.
async function run(name, work, gentle) {
  const current = running.get(name);
  if (current && gentle) { current.next = work; return; }
  current?.stop.abort();
  const own = { stop: new AbortController(), next: null };
  running.set(name, own);
  document.body.classList.toggle('busy', true);
  try {
    await work(own.stop.signal);
    failed.delete(name);
  } catch (error) {
    if (own.stop.signal.aborted) return;
    failed.set(name, error);
    if (!(error instanceof Refused)) console.error(error);
  } finally {
    if (running.get(name) === own) { running.delete(name); if (own.next) run(name, own.next, true); }
    if (!running.size) document.body.classList.toggle('busy', false);
    showFailures();
  }
}
const failed = new Map();
let again = 0;

/// The state of the page where it has nothing to show, and a banner where it has, but old.
function showFailures() {
  const error = failed.get('extent') ?? failed.get('matrix'), box = $('state');
  const nothing = extent && extent.newest === null, unmatched = answer && !answer.cells.length && !running.has('matrix');
  clearTimeout(again);
  const passing = [...failed.values()].some((one) => !(one.status >= 400 && one.status < 500));
  if (passing) again = setTimeout(() => { if (failed.has('extent')) start(); else for (const name of failed.keys()) load(name); }, AGAIN);
  if (error && !(answer && error.status === 0)) {
    const title = error.status === 404 ? 'No history to show' : error.status === 0 ? 'The server is away' : 'The server refused';
    fill(box, el('h3', null, title), el('p', { class: 'error' }, error.message), error.remedy ? el('p', null, 'Remedy: ', el('code', null, error.remedy)) : null,
      passing ? el('p', null, 'Tried again every 5 seconds.') : null);
  } else if (nothing) fill(box, el('h3', null, 'No interval has ended yet'), el('p', null, `The first numbers come when the first interval (${span(interval)}) and its loss threshold have passed. This page shows them by itself.`));
  else if (unmatched) fill(box, el('h3', null, 'No data here'), el('p', null, `Nothing was measured ${view.where.length ? 'for these filters ' : ''}in ${between(shownWindow().from, shownWindow().to)}.`), el('p', null, 'Choose another instant below, a longer window, or fewer filters.'));
  else if (!answer) fill(box, el('p', null, 'Loading…'));
  box.hidden = Boolean(answer?.cells.length) && !(error && error.status !== 0);
  banner();
}

function load(name, gentle = false) {
  if (!extent || newest === null) return;
  const params = windowOf(view, seconds(), interval), { rows, columns } = axes();
  if (name === 'matrix') {
    const asked = [['rows', rows], ['columns', columns], ...(view.against ? [['before', view.against]] : []), ...params, ...whereOf(view.where)];
    run('matrix', async (signal) => {
      const got = await ask('matrix', asked, signal);
      answer = { ...got, instant: !params.some(([name]) => name === 'span') };
      drawMatrix();
    }, gentle);
  } else if (name === 'timeline') loadTimeline(true, gentle);
  else if (name === 'probers') {
    run('probers', async (signal) => {
      probers = (await ask('matrix/probers', params, signal)).probers;
      const bad = probers.filter((p) => p.suspects > 0).length;
      $('probers-badge').hidden = !bad;
      $('probers-badge').textContent = bad;
      $('probers-badge').title = `${bad} suspect`;
      banner();
      if (view.tab === 'probers' && !drilled()) load('panel', true);
    }, gentle);
  } else if (name === 'panel') loadPanel(params, gentle);
  else if (name === 'extent') refreshExtent();
}

const drilled = () => view.row !== null || view.path !== null;

function loadTimeline(always, gentle) {
  if (newest === null) return;
  const edges = timelineOf(), metric = METRICS[view.metric], line = metric.kind === 'delay' ? { field: metric.field, name: metric.name } : null;
  const had = timeline.data, fresh = had && had.from === edges.from && had.to === edges.to && !always;
  if (fresh) { timeline.show({ ...had, line }); timeline.mark(shownWindow(), view.at === null); return; }
  run('timeline', async (signal) => {
    const got = await ask('matrix/series', [['from', iso(edges.from)], ['to', iso(edges.to)], ['points', POINTS], ...whereOf(view.where)], signal);
    const points = objects(got.fields, got.points).map((p) => ({ ...p, end: instant(p.end), loss: p.loss_percent, suspect: p.suspects > 0 }));
    timeline.show({ ...edges, step: got.step_s, points, line, newest });
    timeline.mark(shownWindow(), view.at === null);
  }, gentle);
}

function loadPanel(params, gentle) {
  const what = JSON.stringify([view.row, view.column, view.path, view.flow, drilled() ? 0 : view.tab]);
  const ctx = { view, axes: axes(), timeline: timelineOf(), window: params, shown: shownWindow(), probers, interval, health: endpoints.has('/api/v1/health'), variants: several('dscp') || several('size'), classOf, pick: (at) => go({ at: at >= newest ? null : at }) };
  const panel = $('panel');
  if (what !== panelFor) {
    panel.setAttribute('aria-busy', 'true');
    if (panelFor === null) fill(panel, el('p', { class: 'quiet' }, 'Loading…'));
  }
  run('panel', async (signal) => {
    let parts;
    try {
      parts = await build(ctx, signal);
    } catch (error) {
      if (signal.aborted || !(error instanceof Refused)) throw error;
      parts = [drilled() ? el('nav', { class: 'crumbs' }, el('a', { href: link(view, { row: null, column: null, path: null, flow: null }) }, 'Fleet')) : null,
        el('p', { class: 'error' }, error.message), el('p', { class: 'quiet' }, error.remedy)];
    }
    const fresh = what !== panelFor;
    panelFor = what;
    fill(panel, ...parts);
    panel.removeAttribute('aria-busy');
    if (!fresh) return;
    panel.scrollTop = 0;
    const title = $('panel-title');
    if (title && toPanel) title.focus({ preventScroll: !narrow() });
    if (title && toPanel && narrow()) panel.parentElement.scrollIntoView({ block: 'start' });
    toPanel = false;
    if (title) announce(`${title.textContent}: ${panel.querySelector('.facts dd')?.textContent ?? 'no data'} loss`);
  }, gentle && what === panelFor);
}
let toPanel = false; // whether the focus goes to the panel when it is there
const narrow = () => matchMedia('(max-width: 1000px)').matches;

// ---------------------------------------------------------------- showing

/// Rows and columns by name as the server orders them, or those with the worst cell first.
function orderOf(painted) {
  const order = { rows: answer.rows.values.map((_, i) => i), columns: answer.columns.values.map((_, i) => i) };
  if (view.sort === 'name') return order;
  const none = () => ({ worst: -Infinity, sum: 0, cells: 0 }), ranks = { rows: order.rows.map(none), columns: order.columns.map(none) };
  for (const cell of answer.cells) {
    const value = painted.value(cell);
    if (value === undefined) continue;
    for (const rank of [ranks.rows[cell[0]], ranks.columns[cell[1]]]) {
      rank.worst = Math.max(rank.worst, value ?? Infinity);
      rank.sum += value ?? 0;
      rank.cells += 1;
    }
  }
  // the worst cell decides; where one dead column makes all rows alike, the mean does
  const down = (list) => (a, b) => (list[b].worst - list[a].worst || list[b].sum / list[b].cells - list[a].sum / list[a].cells || a - b);
  order.rows.sort(down(ranks.rows));
  order.columns.sort(down(ranks.columns));
  return order;
}

/// The cell of the same names in the answer of then.
function beforeOf() {
  const then = answer.before;
  if (!then) return () => undefined;
  const key = (axis) => new Map(axis.values.map((value, i) => [value, i])), rows = key(then.rows), columns = key(then.columns);
  const at = new Map(then.cells.map((cell) => [`${cell[0]} ${cell[1]}`, cell]));
  return (cell) => at.get(`${rows.get(answer.rows.values[cell[0]])} ${columns.get(answer.columns.values[cell[1]])}`);
}

let painted = null;
function drawMatrix() {
  if (!answer) return;
  const { rows, columns } = axes();
  if (answer.rows.key !== rows || answer.columns.key !== columns) return; // of another view; the right one is under way
  painted = scale(view.metric, answer.before ? view.against : 0, answer.fields, answer.cells, beforeOf());
  $('matrix-title').textContent = `${painted.metric.name}${answer.before ? ` against ${view.against === 86400 ? 'yesterday' : `${span(view.against)} ago`}` : ''}`;
  const length = answer.instant ? 'newest interval of each path' : span(Math.round((instant(answer.to) - instant(answer.from)) / 10) / 100);
  $('window').textContent = `${between(instant(answer.from), instant(answer.to))} · ${length}${answer.left_out ? ` · ${answer.left_out} paths beyond 1000 rows or columns are left out` : ''}`;
  if (answer.cells.length) {
    matrix.show(answer, painted, orderOf(painted));
    select();
    if (!$('table').hidden) fill($('table'), matrix.table());
  }
  legend();
  timeline.mark(shownWindow(), view.at === null);
  showFailures();
}

/// Marks the cell that is open.
function select() {
  if (!matrix.data) return;
  const r = view.row === null ? -1 : matrix.data.rows.indexOf(view.row), c = view.row === null ? -1 : matrix.data.columns.indexOf(view.column);
  matrix.selected = r >= 0 && c >= 0 ? [r, c] : null;
  matrix.mark();
}

function sign(draw) {
  const canvas = el('canvas', { width: 28, height: 24 });
  canvas.style.width = '14px';
  canvas.style.height = '12px';
  draw(canvas.getContext('2d'));
  return canvas;
}

function legend() {
  const colours = palette();
  const steps = painted.legend.map(([colour, label]) => { const bar = el('i'); bar.style.background = colour; return el('span', null, bar, label); });
  const suspect = sign((c) => { c.strokeStyle = colours.ink; c.lineWidth = 2; for (let k = -24; k < 56; k += 9) { c.moveTo(k, 24); c.lineTo(k + 24, 0); } c.stroke(); });
  const none = sign((c) => { c.fillStyle = colours.dim; c.fillRect(12, 10, 5, 5); });
  const silent = sign((c) => { c.fillStyle = colours.silent; c.fillRect(0, 0, 28, 24); c.fillStyle = colours.card; c.font = '20px system-ui'; c.textAlign = 'center'; c.fillText('×', 14, 18); });
  fill($('legend'), el('span', { class: 'steps' }, steps), el('span', { class: 'sign' }, suspect, 'suspect'), el('span', { class: 'sign' }, none, 'no data'),
    painted.metric.kind === 'loss' ? null : el('span', { class: 'sign' }, silent, painted.none), answer.before ? el('span', { class: 'sign' }, 'blue: better, orange: worse') : null);
  $('legend').setAttribute('aria-label', `Colours: ${painted.legend.map(([, label]) => label).join(', ')}; hatched: suspect; a dot: no data`);
}

/// Says that the prober may be to blame, or that what is shown is old.
function banner() {
  const box = $('banner'), parts = [];
  const away = [...failed.values()].find((error) => error.status === 0);
  if (away && answer) parts.push(el('b', null, 'The server is away.'), el('span', null, `What is shown is of ${between(instant(answer.from), instant(answer.to))}. Tried again every 5 seconds.`));
  const at = answer?.fields.indexOf('suspects'), cells = answer?.cells.filter((cell) => cell[at] > 0).length ?? 0;
  if (cells && !away) {
    const bad = probers.filter((p) => p.suspects > 0), names = bad.slice(0, 3).map((p) => p.src_ip).join(', '), reasons = [...new Set(bad.flatMap(reasonsOf))].join('; ');
    parts.push(el('b', null, `${count(cells)} of ${count(answer.cells.length)} cells rest partly on suspect measurements.`),
      el('span', null, `Look at the probers before you blame the network${names ? `: ${names}${bad.length > 3 ? ` and ${bad.length - 3} more` : ''}${reasons ? ` (${reasons})` : ''}` : ''}.`),
      el('a', { href: link(view, { tab: 'probers', row: null, column: null, path: null, flow: null }), 'data-key': 'banner' }, 'Show probers'));
  }
  const text = parts.map((part) => part.textContent).join();
  if (box.dataset.text !== text) { box.dataset.text = text; fill(box, ...parts); }
  else if (parts.length && box.querySelector('a')) box.querySelector('a').href = link(view, { tab: 'probers', row: null, column: null, path: null, flow: null });
  if (box.hidden && parts.length) announce(parts[0].textContent);
  box.hidden = !parts.length;
}

const words = (r, c) => {
  const data = matrix.data, cell = matrix.cell(r, c), name = `${shown(data.rowKey, data.rows[r])} to ${shown(data.columnKey, data.columns[c])}`;
  if (!cell) return `${name}: no data`;
  const f = objects(answer.fields, [cell])[0];
  return `${name}: ${painted.metric.name} ${painted.text(cell)}${painted.metric.kind === 'loss' ? '' : `, loss ${percent(f.loss_percent)}`}, ${f.lost} of ${f.sent} lost${f.lost ? ` (${kindsOf(f).join('; ')})` : ''}, ${f.dscp_changed ? `${classesOf(f, classOf(data.rows[r], data.columns[c])).join('; ')}, ` : ''}${f.flows_with_loss} of ${f.flows} flows with loss${f.suspects ? ', suspect' : ''}`;
};

/// Says so where a path of a cell is behind the others by more than an interval, and a bit.
const stale = (f) => (answer.instant && instant(answer.to) - instant(f.stalest) > 1500 * interval ? ` · last heard of at ${clock(instant(f.stalest))}` : '');

/// The numbers beside the pointer or the focused cell.
function look(cell, rect, at) {
  const tip = $('tip');
  if (!rect || !at && !cell) { tip.hidden = true; return; }
  const [r, c] = at ?? matrix.focus, data = matrix.data;
  const title = el('b', null, `${shown(data.rowKey, data.rows[r])} → ${shown(data.columnKey, data.columns[c])}`);
  if (!cell) fill(tip, title, el('span', { class: 'quiet' }, 'no data: nothing was probed between these two'));
  else {
    const f = objects(answer.fields, [cell])[0], suspects = probers.filter((p) => p.suspects > 0 && (data.rowKey !== 'src_ip' || p.src_ip === data.rows[r]));
    const change = answer.before ? el('span', { class: 'warn' }, `${painted.metric.name} ${painted.text(cell)}`) : null;
    fill(tip, title, change, facts(f, f.suspects ? [...new Set(suspects.flatMap(reasonsOf))] : [], classOf(data.rows[r], data.columns[c])), el('small', null, `${f.paths} path${f.paths === 1 ? '' : 's'}${stale(f)} · Enter or click opens`));
  }
  tip.hidden = false;
  const box = matrix.box.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const [x, y] = [box.left + rect.x, box.top + rect.y];
  tip.style.left = `${Math.max(6, x + rect.width + 12 + own.width < innerWidth ? x + rect.width + 12 : x - own.width - 12)}px`;
  tip.style.top = `${Math.max(6, Math.min(innerHeight - own.height - 6, y + rect.height / 2 - own.height / 2))}px`;
}

// ---------------------------------------------------------------- parts

const open = (r, c) => {
  const data = matrix.data;
  $('tip').hidden = true;
  toPanel = matrix.focused === true && document.activeElement === matrix.box || narrow();
  go({ row: data.rows[r], column: data.columns[c], path: null, flow: null });
};
const matrix = new Matrix({ open, look, said: words });
const scrub = (at, final) => {
  if (!final && !scrubbing) { history.pushState(null, '', write(view)); scrubbing = true; }
  go({ at }, { gentle: !final });
  if (final) { scrubbing = false; announce(at === null ? 'live' : `${clock(at)} UTC`); }
};
const timeline = new Timeline({
  scrub,
  brush: (from, to) => { go({ at: to >= newest ? null : to, span: Math.max(interval, (to - from) / 1000) }); announce(between(from, to)); },
});

const controlsShown = () => { showControls(view, extent, axes(), { newest, interval, range: rangeOf(), step: stepOf(rangeOf(), interval) }); select(); };
controls({
  go, axes, get view() { return view; }, matrix, timeline, up: () => {
    const changes = up(view);
    if (!changes) return false;
    const closes = view.row !== null && !view.path;
    go(changes);
    if (closes) matrix.box.focus({ preventScroll: true }); else toPanel = true;
    return true;
  },
  step: (by) => {
    const step = seconds() * 1000, at = Math.ceil(end() / step) * step + by * step;
    scrub(at >= newest ? null : at, true);
  },
  move: (by) => {
    const to = timelineOf().to + by * rangeOf() * 500;
    go({ end: to >= newest ? null : to, at: view.at === null && to < newest ? newest : view.at });
  },
  values: (key) => keyOf(key)?.values ?? [],
  live: () => go(view.at === null ? { at: newest } : { at: null, end: null }),
  table: (on) => {
    $('table').hidden = !on;
    $('matrix').hidden = on;
    if (on && matrix.data) { fill($('table'), matrix.table()); $('table').focus(); }
  },
  redraw: () => { drawMatrix(); timeline.draw(); load('panel'); },
});

// ---------------------------------------------------------------- live

let events = null;
function connection(text, state) {
  if ($('connection-state').textContent !== text) $('connection-state').textContent = text;
  $('newest').textContent = state === 'on' && newest ? `newest ${clock(newest)} UTC` : '';
  $('connection').className = `pill ${state}`;
}

function reconnect() {
  if (events && events.readyState !== EventSource.CLOSED) { if (events.readyState === EventSource.OPEN && newest) refresh(); return; }
  events = new EventSource('/api/v1/events');
  events.addEventListener('open', () => {
    if ($('connection').classList.contains('off')) refreshExtent(); // it may be another program by now
    connection('connected', 'on');
  });
  events.addEventListener('interval', (event) => {
    const told = JSON.parse(event.data);
    if (told.newest === null) return connection('connected', 'on'); // it begins with an empty history
    const at = instant(told.newest);
    const first = newest === null, same = newest === at;
    newest = at;
    interval = told.interval_s;
    connection('connected', 'on');
    if (same) return;
    if (first) start(); else refresh();
  });
  events.addEventListener('error', () => {
    connection('connection lost, trying again', 'off');
    if (events.readyState === EventSource.CLOSED) setTimeout(reconnect, AGAIN);
  });
}

/// Asks again for what moves with time; what is under way is awaited.
function refresh() {
  if (Date.now() - extentAt > EXTENT_AGE) refreshExtent();
  if (timeline.data) timeline.data.newest = newest;
  if (view.at !== null) return;
  for (const name of ['matrix', 'timeline', 'probers', 'panel']) load(name, true);
}

async function refreshExtent() {
  await run('extent', async (signal) => {
    const got = await ask('matrix/extent', [], signal);
    extent = got;
    extentAt = Date.now();
    newest = got.newest === null ? null : Math.max(newest ?? 0, instant(got.newest));
    interval = got.interval_s || interval;
    $('source').textContent = `${got.role === 'matrix' ? '' : `${got.role} · `}${got.source} · ${count(got.paths)} paths`;
    $('source').title = $('source').textContent;
    document.title = `LLAMA · ${got.source}`;
    controlsShown();
  }, false);
}

/// What this program answers: not every role has all endpoints.
let endpoints = new Set();
async function discover() {
  const { signal } = new AbortController();
  endpoints = new Set((await ask('', [], signal).catch(() => ({ endpoints: [] }))).endpoints.map((one) => one.path));
  if (!endpoints.has('/api/v1/build')) return;
  const build = await ask('build', [], signal).catch(() => null);
  if (build) $('version').textContent = `${build.name} ${build.version}`;
}

async function start() {
  await refreshExtent();
  if (!failed.has('extent')) {
    for (const name of ['matrix', 'timeline', 'probers', 'panel']) load(name);
    reconnect();
  } else connection(failed.get('extent').status === 0 ? 'connection lost, trying again' : 'nothing to follow', failed.get('extent').status === 0 ? 'off' : '');
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { drawMatrix(); timeline.draw(); });
controlsShown();
fill($('panel'), el('p', { class: 'quiet' }, 'Nothing to show yet.'));
discover().then(start);
