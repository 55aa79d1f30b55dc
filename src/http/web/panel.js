// The panel beside the matrix: the worst paths and flows, the probers' own health, and the drill-down from a cell over its
// paths and their flows to one flow.

import { ask, objects, whereOf } from './api.js';
import { histogram, timeChart } from './chart.js';
import { el, oneLine } from './dom.js';
import { REASONS, className, classesOf, clock, count, dscpName, instant, iso, keyName, kindNames, kindsOf, ms, percent, shown, ways } from './format.js';
import { METRICS, lossColour } from './scale.js';
import { POINTS, link } from './view.js';

const LISTED = matchMedia('(max-width: 1000px)').matches ? 20 : 50;

const loss = (value) => el('td', { class: 'number' }, swatch(value), percent(value));
const number = (text) => el('td', { class: 'number' }, text);
function swatch(value) {
  const mark = el('i', { class: 'swatch', 'aria-hidden': 'true' });
  mark.style.background = lossColour(value);
  return mark;
}

/// A table whose rows lead somewhere by the link in their first cell.
function table(name, heads, rows) {
  return el('div', { class: 'scroll-x', role: 'region', 'aria-label': name, tabindex: '-1' }, el('table', { class: 'list' },
    el('thead', null, el('tr', null, heads.map(([text, title, wide]) => el('th', { scope: 'col', title, class: wide ? 'wide' : 'number' }, text)))),
    el('tbody', { onclick: follow }, rows)));
}

/// A click anywhere on a row follows its link.
function follow(event) {
  if (event.target.closest('a') || getSelection().toString()) return;
  event.target.closest('tr')?.querySelector('a')?.click();
}

const tagsOf = (tags) => Object.entries(tags ?? {}).filter(([, value]) => value !== '').map(([key, value]) => `${key}=${value}`).join('  ');

function directions(one) {
  const known = one.lost_forward + one.lost_reverse;
  if (!one.lost) return '–';
  return known ? `${count(one.lost_forward)} → · ← ${count(one.lost_reverse)}` : 'unknown';
}

const lines = (texts, kind = 'line') => texts.map((text) => el('span', { class: kind }, text));

/// The numbers of a window, as a list of terms; `asked` is the class, where there is but one.
export function facts(f, reasons = [], asked = null) {
  const bound = f.percentiles === 'bound', items = [];
  const add = (name, ...value) => items.push(el('div', null, el('dt', null, name), el('dd', null, ...value.flat())));
  add('loss', percent(f.loss_percent), el('small', null, ` ${count(f.lost)} of ${count(f.sent)}`));
  if (f.lost) add('lost', lines(kindsOf(f)));
  if (f.rtt_mean_ms == null) add('RTT', 'nothing came back');
  else {
    add('RTT p50', ms(f.rtt_p50_ms, bound));
    add('RTT p99', ms(f.rtt_p99_ms, bound));
    add('RTT min · mean · max', `${ms(f.rtt_min_ms)} · ${ms(f.rtt_mean_ms)} · ${ms(f.rtt_max_ms)}`);
    if (f.ipdv_mean_ms != null) add('IPDV mean', ms(f.ipdv_mean_ms));
    if (f.owd_forward_mean_ms != null) add('one way there · back', `${ms(f.owd_forward_mean_ms)} · ${ms(f.owd_reverse_mean_ms)}`);
  }
  if (f.flows) add('flows with loss', `${count(f.flows_with_loss)} of ${count(f.flows)}`);
  for (const [name, text] of [['late', 'late replies'], ['duplicates', 'duplicates'], ['reordered', 'reordered']]) if (f[name]) add(text, count(f[name]));
  if (f.syn_acks || f.resets) add('TCP answers', [[f.syn_acks, 'SYN-ACK'], [f.resets, 'RST']].filter(([n]) => n > 0).map(([n, what]) => `${count(n)} ${what}`).join(' · '));
  if (f.dscp_changed) add('class changed', lines(classesOf(f, asked), 'line warn'));
  if (f.ecn_marked_forward || f.ecn_marked_reverse) add('congestion marks (ECN)', ways(f.ecn_marked_forward, f.ecn_marked_reverse));
  if (f.suspects) add('suspect', el('span', { class: 'warn' }, `${count(f.suspects)} of ${count(f.summaries)} summaries${reasons.length ? `: ${reasons.join('; ')}` : ''}`));
  return el('dl', { class: 'facts' }, items);
}

/// Where probes of a flow were lost, as far as it is known.
function lostWhere(lost, there, back) {
  const unknown = lost - there - back;
  if (unknown === lost) return 'direction unknown';
  return `${ways(there, back)}${unknown > 0 ? ` · ${count(unknown)} unknown` : ''}`;
}

/// The reasons of a prober, in words.
export const reasonsOf = (prober) => Object.entries(prober.suspect ?? {}).filter(([, n]) => n > 0).map(([name]) => REASONS[name] ?? name);

const crumb = (href, text, key) => (href === null ? el('span', { 'aria-current': 'page' }, text) : el('a', { href, 'data-key': key }, text));

function head(view, crumbs, title, sub) {
  return [
    el('nav', { class: 'crumbs', 'aria-label': 'Where in the drill-down' }, el('ol', null, crumbs.map((one) => el('li', null, one)))),
    el('h2', { id: 'panel-title', tabindex: '-1' }, title), sub && el('p', { class: 'sub' }, sub),
  ];
}

/// A part of the panel: what is asked for and how it is drawn. `ctx`: {view, axes, timeline {from, to}, window [params],
/// shown {from, to}, probers, pick, variants (whether there are several classes or sizes), classOf(row, column)}.
export async function build(ctx, signal) {
  const { view } = ctx;
  if (view.flow) return flow(ctx, signal);
  if (view.path) return path(ctx, signal);
  if (view.row !== null) return cell(ctx, signal);
  return { paths: worstPaths, flows: worstFlows, probers }[view.tab](ctx, signal);
}

const series = (ctx, where, signal) => ask('matrix/series', [['from', iso(ctx.timeline.from)], ['to', iso(ctx.timeline.to)], ['points', POINTS], ...where], signal);
const total = (ctx, where, signal) => ask('matrix/series', [...ctx.window, ['points', 10], ...where], signal);

function chart(ctx, answer, what) {
  const points = objects(answer.fields, answer.points).map((p) => ({
    end: instant(p.end), loss: p.loss_percent, suspect: p.suspects > 0, sent: p.sent, lost: p.lost,
    low: p.rtt_min_ms, middle: p.rtt_p50_ms ?? p.rtt_mean_ms, high: p.rtt_p99_ms ?? p.rtt_max_ms, top: p.rtt_max_ms, bound: p.percentiles === 'bound', exact: p.rtt_p50_ms != null,
  }));
  const words = {
    what, idle: 'Bars: loss. Line: RTT p50; band: smallest to p99, paler to the largest.',
    at: (p) => `loss ${percent(p.loss)} (${count(p.lost)} of ${count(p.sent)})${p.middle == null ? '' : ` · ${p.exact ? 'p50' : 'mean'} ${ms(p.middle, p.bound && p.exact)} · p99 ${ms(p.high, p.bound)} · max ${ms(p.top)}`}${p.suspect ? ' · suspect' : ''}`,
  };
  return [el('h3', null, 'Over time'), timeChart({ points, step: answer.step_s, ...ctx.timeline, window: ctx.shown, words, pick: ctx.pick })];
}

function distribution(f) {
  const bound = f.percentiles === 'bound' ? '≤ ' : '';
  return [el('h3', null, 'Round trips of this window'), histogram(f.rtt_histogram ?? [], [[f.rtt_p50_ms, `${bound}p50`], [f.rtt_p99_ms, `${bound}p99`]], 'Histogram of round trips')];
}

/// What is to be said of a row beside its numbers: the kind of its loss, a class that was changed.
function remark(f, asked) {
  const text = [kindNames(f), ...classesOf(f, asked)].filter(Boolean).join(' · ');
  return text ? el('small', { class: 'warn' }, text) : null;
}

function pathRows(ctx, list) {
  const { view } = ctx;
  return list.map((p) => el('tr', { title: tagsOf(p.tags), class: p.suspects > 0 ? 'suspect' : null },
    el('td', { class: 'wide' }, el('a', { href: link(view, { path: p.id, flow: null }), 'data-key': `path ${p.id}` }, `${p.src_ip} → ${p.dst_ip}`), el('small', null, `${p.group ? `${oneLine(p.group)} · ` : ''}${shown('method', p.method)} · ${className(p.dscp)}${p.size ? ` · ${shown('size', p.size)}` : ''}`), remark(p, p.dscp)),
    loss(p.loss_percent), number(ms(p.rtt_p50_ms, p.percentiles === 'bound')), number(ms(p.rtt_p99_ms, p.percentiles === 'bound')),
    number(p.flows ? `${count(p.flows_with_loss)}/${count(p.flows)}` : '–')));
}
const PATH_HEADS = [['path', null, true], ['loss', '100 · lost / sent'], ['p50', 'round-trip time'], ['p99', 'round-trip time'], ['flows', 'flows with loss / all flows']];

function flowRows(ctx, list, both) {
  const port = (end) => end.slice(end.lastIndexOf(':') + 1);
  return list.map((f) => el('tr', { title: tagsOf(f.tags) },
    el('td', { class: 'wide' }, el('a', { href: link(ctx.view, { path: f.path, flow: { source: f.source, target: f.target, dscp: f.dscp } }), 'data-key': `flow ${f.path} ${f.source} ${f.target} ${f.dscp}` }, both ? `${f.source} → ${f.target}` : `port ${port(f.source)}`),
      el('small', null, both ? `${f.group ? `${oneLine(f.group)} · ` : ''}${className(f.dscp)}` : `→ ${f.target} · ${className(f.dscp)}`), f.dscp_changed_forward || f.dscp_changed_reverse ? el('small', { class: 'warn' }, `class changed: ${ways(f.dscp_changed_forward, f.dscp_changed_reverse)}`) : null),
    loss(f.loss_percent), number(`${count(f.lost)}/${count(f.sent)}`), number(directions(f)), number(ms(f.rtt_ms?.mean)), number(ms(f.rtt_ms?.max))));
}
const FLOW_HEADS = [['flow', null, true], ['loss', '100 · lost / sent'], ['lost', 'lost / sent'], ['there · back', 'lost on the way there and on the way back, where known'], ['mean', 'round-trip time'], ['max', 'round-trip time']];

const more = (listed, all, what) => (all > listed ? el('p', { class: 'quiet' }, `The first ${count(listed)} of ${count(all)} ${what}.`) : null);
const nothing = (what) => el('p', { class: 'quiet' }, `No ${what} in this window. Choose another instant below the matrix, or fewer filters.`);

async function worstPaths(ctx, signal) {
  const { order, name } = METRICS[ctx.view.metric];
  const answer = await ask('matrix/paths', [['order', order], ['limit', LISTED], ...ctx.window, ...whereOf(ctx.view.where)], signal);
  const list = objects(answer.fields, answer.paths);
  return [el('p', { class: 'sub' }, `Paths by ${order === 'loss' ? 'loss' : name.replace(/^[A-Z](?=[a-z])/, (c) => c.toLowerCase())}, worst first`),
    list.length ? table('Worst paths', PATH_HEADS, pathRows(ctx, list)) : nothing('paths'), more(list.length, answer.total, 'paths')];
}

async function worstFlows(ctx, signal) {
  const order = METRICS[ctx.view.metric].kind === 'delay' ? 'rtt' : 'loss';
  const answer = await ask('matrix/flows', [['order', order], ['limit', LISTED], ...ctx.window, ...whereOf(ctx.view.where)], signal);
  return [el('p', { class: 'sub' }, `Flows by ${order === 'rtt' ? 'round-trip time' : 'loss'}, worst first`),
    answer.flows.length ? table('Worst flows', FLOW_HEADS, flowRows(ctx, answer.flows, true)) : nothing('flows'), more(answer.flows.length, answer.total, 'flows')];
}

async function probers(ctx, signal) {
  const health = ctx.health ? await ask('health', [], signal) : null;
  const list = [...(ctx.probers ?? [])].sort((a, b) => b.suspects - a.suspects || b.lateness_p99_ms - a.lateness_p99_ms);
  const newest = Math.max(...list.map((p) => instant(p.newest)));
  const parts = [];
  if (health) {
    parts.push(el('p', { class: `state ${health.status === 'ok' ? 'ok' : 'bad'}` }, el('b', null, health.status === 'ok' ? 'This program does all it should.' : `This program is ${health.status}.`)));
    if (health.reasons?.length) parts.push(el('ul', { class: 'reasons' }, health.reasons.map((r) => el('li', { class: r.now ? 'now' : 'past' }, el('b', null, r.name.replaceAll('_', ' ')), ` ${r.meaning}: ${count(r.count)}${r.now ? ', now' : ', in the past'}, since ${clock(instant(r.since))} UTC`))));
  }
  const rows = list.map((p) => {
    const reasons = reasonsOf(p), late = newest - instant(p.newest) > 3 * ctx.interval * 1000;
    return el('tr', { class: p.suspects > 0 ? 'suspect' : null },
      el('td', { class: 'wide' }, el('a', { href: link(ctx.view, { where: [...ctx.view.where.filter(([key]) => key !== 'src_ip'), ['src_ip', p.src_ip]] }), 'data-key': `prober ${p.src_ip}`, title: 'show only its paths' }, p.src_ip),
        el('small', { class: reasons.length || p.send_failed > 0 ? 'warn' : null }, p.suspects > 0 ? `suspect, ${count(p.suspects)} of ${count(p.summaries)}: ${reasons.join('; ')}` : late ? `last heard at ${clock(instant(p.newest))}` : p.send_failed > 0 ? `${count(p.send_failed)} sends failed, not measured: no route, no buffer or a firewall there` : `sound · ${count(p.paths)} paths`)),
      number(ms(p.lateness_p99_ms)), number(ms(p.lateness_max_ms)), number(count(p.local_drops)), number(count(p.not_sent)), number(count(p.send_failed)));
  });
  parts.push(el('h3', null, 'Probers in this window'), el('p', { class: 'sub' }, 'What they could not do themselves. It is never counted as loss; all but failed sends, which measure nothing, make their numbers suspect.'),
    list.length ? table('Probers', [['prober', null, true], ['late p99', 'how late probes left: 99th percentile'], ['late max', 'how late probes left: the latest'], ['drops', 'datagrams dropped by its own sockets'], ['not sent', 'due and not sent in time'], ['failed', 'not taken by the kernel']], rows) : nothing('probers'));
  return parts;
}

const VARIANT_HEADS = [['class, size', null, true], ['loss', '100 · lost / sent'], ['p50', 'round-trip time'], ['p99', 'round-trip time']];

/// Classes and sizes side by side, where there are several: rows of a matrix of both.
function variants(ctx, answer) {
  const keys = (f) => [answer.rows.values[f.row], answer.columns.values[f.column]];
  const list = answer ? objects(answer.fields, answer.cells) : [];
  if (list.length < 2) return [];
  const rows = list.map((f) => {
    const [dscp, size] = keys(f), terms = [['dscp', dscp, answer.rows], ['size', size, answer.columns]].filter(([, , axis]) => axis.values.length > 1).map(([key, value]) => [key, value]);
    const name = [shown('dscp', dscp), size === '' ? null : shown('size', size)].filter(Boolean).join(' · ');
    return el('tr', { class: f.suspects > 0 ? 'suspect' : null },
      el('td', { class: 'wide' }, el('a', { href: link(ctx.view, { where: [...ctx.view.where.filter(([key]) => !terms.some(([own]) => own === key)), ...terms] }), 'data-key': `variant ${name}`, title: 'show only these' }, name), remark(f, dscp)),
      loss(f.loss_percent), number(ms(f.rtt_p50_ms, f.percentiles === 'bound')), number(ms(f.rtt_p99_ms, f.percentiles === 'bound')));
  });
  return [el('h3', null, 'Classes and sizes'), table('Classes and sizes', VARIANT_HEADS, rows)];
}

async function cell(ctx, signal) {
  const { view } = ctx, { rows, columns } = ctx.axes, where = whereOf(view.where, { [rows]: view.row, [columns]: view.column });
  const [over, now, answer, kinds] = await Promise.all([series(ctx, where, signal), total(ctx, where, signal),
    ask('matrix/paths', [['order', METRICS[view.metric].order], ['limit', LISTED], ...ctx.window, ...where], signal),
    ctx.variants && ask('matrix', [['rows', 'dscp'], ['columns', 'size'], ...ctx.window, ...where], signal)]);
  const list = objects(answer.fields, answer.paths);
  const name = `${oneLine(shown(rows, view.row))} → ${oneLine(shown(columns, view.column))}`;
  const crumbs = [crumb(link(view, { row: null, column: null }), 'Fleet', 'fleet'), crumb(null, name)];
  if (!list.length && !over.points.length) return [...head(view, crumbs, name, `${keyName(rows)} → ${keyName(columns)}`), nothing('paths between these two')];
  return [...head(view, crumbs, name, `${keyName(rows)} → ${keyName(columns)} · ${count(answer.total)} path${answer.total === 1 ? '' : 's'}`),
    list.length ? facts(now.total, suspectReasons(ctx, list), ctx.classOf(view.row, view.column)) : nothing('paths between these two'), variants(ctx, kinds), chart(ctx, over, name), list.length ? distribution(now.total) : [],
    el('h3', null, 'Paths'), list.length ? table('Paths', PATH_HEADS, pathRows(ctx, list)) : nothing('paths'), more(list.length, answer.total, 'paths')];
}

const suspectReasons = (ctx, paths) => [...new Set((ctx.probers ?? []).filter((p) => paths.some((one) => one.src_ip === p.src_ip)).flatMap(reasonsOf))];

function above(view, ctx) {
  const list = [crumb(link(view, { row: null, column: null, path: null, flow: null }), 'Fleet', 'fleet')];
  if (view.row !== null) list.push(crumb(link(view, { path: null, flow: null }), `${oneLine(shown(ctx.axes.rows, view.row))} → ${oneLine(shown(ctx.axes.columns, view.column))}`, 'cell'));
  return list;
}

async function path(ctx, signal) {
  const { view } = ctx, where = [['path', view.path]];
  const [over, now, own, answer] = await Promise.all([series(ctx, where, signal), total(ctx, where, signal),
    ask('matrix/paths', [...ctx.window, ...where], signal), ask('matrix/flows', [['limit', 200], ...ctx.window, ...where], signal)]);
  const [one] = objects(own.fields, own.paths), name = one ? `${one.src_ip} → ${one.dst_ip}` : `path ${view.path}`;
  const crumbs = [...above(view, ctx), crumb(null, name)];
  if (!one) return [...head(view, crumbs, name), nothing('measurement of this path'), over.points.length ? chart(ctx, over, name) : []];
  return [...head(view, crumbs, name, `${one.group ? `${oneLine(one.group)} · ` : ''}${shown('method', one.method)} · class ${dscpName(one.dscp)}${one.size ? ` · ${shown('size', one.size)}` : ''}`),
    el('ul', { class: 'tags', 'aria-label': 'Tags' }, Object.entries(one.tags ?? {}).map(([key, value]) => el('li', null, el('b', null, key), ` ${shown(key, value)}`))),
    facts(now.total, suspectReasons(ctx, [one]), one.dscp), chart(ctx, over, name), distribution(now.total), el('h3', null, 'Flows'),
    answer.flows.length ? table('Flows', FLOW_HEADS, flowRows(ctx, answer.flows, false)) : nothing('flows'), more(answer.flows.length, answer.total, 'flows'),
    one.flows > answer.total ? el('p', { class: 'quiet' }, `Of this path's ${count(one.flows)} flows the worst of each interval are kept.`) : null];
}

async function flow(ctx, signal) {
  const { view } = ctx, { source, target, dscp } = view.flow;
  const answer = await ask('matrix/flow', [['path', view.path], ['source', source], ['target', target], ['dscp', dscp], ['from', iso(ctx.timeline.from)], ['to', iso(ctx.timeline.to)]], signal);
  const name = `${source} → ${target}`, [from, to] = [source, target].map((end) => end.slice(0, end.lastIndexOf(':')).replace(/^\[|\]$/g, ''));
  const crumbs = [...above(view, ctx), crumb(link(view, { flow: null }), `${from} → ${to}`, 'path'), crumb(null, `port ${source.slice(source.lastIndexOf(':') + 1)}`)];
  const points = answer.points.map((p) => ({ ...p, end: instant(p.end), loss: p.loss_percent, low: p.rtt_ms?.min, middle: p.rtt_ms?.mean, high: p.rtt_ms?.max, top: p.rtt_ms?.max }));
  const sum = (field) => points.reduce((n, p) => n + (p[field] ?? 0), 0);
  const came = points.filter((p) => p.rtt_ms), samples = came.reduce((n, p) => n + p.rtt_ms.samples, 0);
  const steps = points.slice(1).map((p, i) => p.end - points[i].end).filter((d) => d > 0);
  const words = { what: name, idle: 'Bars: loss. Line: mean RTT; band: smallest to largest.', at: (p) => `loss ${percent(p.loss)} (${p.lost} of ${p.sent}; ${directions(p)})${p.middle == null ? ' · nothing came back' : ` · ${ms(p.low)} · ${ms(p.middle)} · ${ms(p.top)}`}` };
  const lossPercent = sum('sent') ? 100 * sum('lost') / sum('sent') : 0;
  const title = head(view, crumbs, name, `class ${dscpName(dscp)} · in the time of the chart`);
  if (!points.length) return [...title, el('p', { class: 'quiet' }, 'This flow was not among those kept in this time: of a path with many flows the worst of each interval are.')];
  const item = (name, value) => el('div', null, el('dt', null, name), el('dd', null, value));
  return [...title,
    el('dl', { class: 'facts' }, item('loss', `${percent(lossPercent)}  ${count(sum('lost'))} of ${count(sum('sent'))}`),
      sum('lost') ? item('lost', lostWhere(sum('lost'), sum('lost_forward'), sum('lost_reverse'))) : null,
      sum('dscp_changed_forward') + sum('dscp_changed_reverse') ? item('class changed', el('span', { class: 'warn' }, ways(sum('dscp_changed_forward'), sum('dscp_changed_reverse')))) : null,
      samples ? item('RTT min · mean · max', `${ms(Math.min(...came.map((p) => p.rtt_ms.min)))} · ${ms(came.reduce((n, p) => n + p.rtt_ms.mean * p.rtt_ms.samples, 0) / samples)} · ${ms(Math.max(...came.map((p) => p.rtt_ms.max)))}`) : null,
      item('intervals', count(points.length))),
    el('h3', null, 'Over time'),
    timeChart({ points, step: Math.max(answer.resolution_s, steps.length ? Math.min(...steps) / 1000 : 0), ...ctx.timeline, window: ctx.shown, words, pick: ctx.pick }),
    el('h3', null, 'Mean round trip of each interval, weighted by replies'),
    histogram(came.map((p) => [p.rtt_ms.mean * 1e6, p.rtt_ms.samples]).sort((a, b) => a[0] - b[0]), [], 'Histogram of mean round trips')];
}
