// Selects, buttons, filters and keys: they change the view, and show it.

import { $, announce, choose, el, fill } from './dom.js';
import { keyName, shown, span } from './format.js';
import { METRICS } from './scale.js';
import { METRIC_NAMES, RANGES } from './view.js';

const AGAINST = [[0, 'now only'], [3600, 'with an hour ago'], [86400, 'with yesterday']];
const WINDOWS = [60, 300, 900, 3600, 21600, 86400];
const QUICK = ['dscp', 'size', 'method', 'group'];

/// Shows the view in the controls.
export function showControls(view, extent, axes, { interval, range, step }) {
  const keys = extent?.keys ?? [], known = new Set(keys.map((key) => key.name));
  const useful = keys.filter((key) => key.count > 0 && !(key.count === 1 && key.values[0] === '')).map((key) => [key.name, `${keyName(key.name)} (${key.count})`]);
  const withOwn = (key) => (known.has(key) && useful.some(([name]) => name === key) ? useful : [...useful, [key, keyName(key)]]);
  choose($('rows'), withOwn(axes.rows), axes.rows);
  choose($('columns'), withOwn(axes.columns), axes.columns);
  choose($('metric'), METRIC_NAMES.map((name) => [name, METRICS[name].name]), view.metric);
  const against = AGAINST.some(([s]) => s === view.against) ? AGAINST : [...AGAINST, [view.against, `with ${span(view.against)} ago`]];
  choose($('against'), against.map(([s, text]) => [String(s), text]), String(view.against));
  $('sort').value = view.sort;
  for (const name of QUICK) {
    const key = keys.find((one) => one.name === name), chosen = view.where.filter(([k]) => k === name).map(([, value]) => value);
    const select = $(`by-${name}`), values = key?.values ?? [];
    select.closest('label').hidden = values.length < 2 && !chosen.length;
    const options = [['*', 'any'], ...[...new Set([...values, ...chosen])].map((value) => [`=${value}`, shown(name, value)])];
    if (chosen.length > 1) options.push(['several', 'several']);
    choose(select, options, chosen.length > 1 ? 'several' : chosen.length ? `=${chosen[0]}` : '*');
  }
  choose($('by-key'), [['', '+ filter…'], ...useful.filter(([name]) => !QUICK.includes(name))], $('by-key').value);
  const inSelect = (key) => QUICK.includes(key) && view.where.filter(([k]) => k === key).length === 1;
  fill($('chips'), view.where.map(([key, value], i) => !inSelect(key) && el('li', null, el('button', { type: 'button', 'data-chip': i, 'data-key': `chip ${key}=${value}`, title: `${keyName(key)} = ${shown(key, value)}`, 'aria-label': `Remove the filter ${keyName(key)} = ${shown(key, value)}` }, el('span', null, `${keyName(key)} = ${shown(key, value)}`), '✕'))));
  const windows = [['', `auto: ${span(Math.max(step, interval))}`], [String(interval), `interval: ${span(interval)}`], ...WINDOWS.filter((s) => s > interval).map((s) => [String(s), span(s)])];
  if (view.span !== null && !windows.some(([s]) => s === String(view.span))) windows.push([String(view.span), span(view.span)]);
  choose($('span'), windows, view.span === null ? '' : String(view.span));
  if (!$('ranges').children.length) fill($('ranges'), RANGES.map((s) => el('button', { type: 'button', 'data-range': s, title: `The last ${span(s)}` }, s === 86400 ? '24 h' : span(s))));
  for (const button of $('ranges').children) button.setAttribute('aria-pressed', Number(button.dataset.range) === range);
  $('live').setAttribute('aria-pressed', view.at === null);
  const drilled = view.row !== null || view.path !== null;
  for (const tab of $('tabs').children) {
    const on = !drilled && tab.dataset.tab === view.tab;
    tab.setAttribute('aria-selected', on);
    tab.tabIndex = tab.dataset.tab === view.tab ? 0 : -1;
    if (on) $('panel').setAttribute('aria-labelledby', tab.id);
  }
}

/// Listens. `page`: what can be done, see app.js.
export function controls(page) {
  const on = (id, type, work) => $(id).addEventListener(type, work);
  const closed = { row: null, column: null, path: null, flow: null };
  $('bar').addEventListener('submit', (event) => event.preventDefault());
  on('rows', 'change', () => page.go({ rows: $('rows').value, columns: page.axes().columns, ...closed }));
  on('columns', 'change', () => page.go({ columns: $('columns').value, rows: page.axes().rows, ...closed }));
  const swap = () => { const { rows, columns } = page.axes(); page.go({ rows: columns, columns: rows, row: page.view.column, column: page.view.row }); };
  on('swap', 'click', swap);
  on('metric', 'change', () => page.go({ metric: $('metric').value }));
  on('against', 'change', () => page.go({ against: Number($('against').value) }));
  on('sort', 'change', () => page.go({ sort: $('sort').value }));
  on('span', 'change', () => page.go({ span: $('span').value === '' ? null : Number($('span').value) }));
  for (const name of QUICK) {
    on(`by-${name}`, 'change', (event) => {
      const { value } = event.target, others = page.view.where.filter(([key]) => key !== name);
      if (value !== 'several') page.go({ where: value === '*' ? others : [...others, [name, value.slice(1)]] });
    });
  }
  on('by-key', 'change', () => {
    const key = $('by-key').value, list = page.values(key);
    $('by-value-box').hidden = !key;
    if (key) choose($('by-value'), [['', `${keyName(key)} is…`], ...list.map((value) => [`=${value}`, shown(key, value)])], '');
    if (key) $('by-value').focus();
  });
  on('by-value', 'change', () => {
    const term = [$('by-key').value, $('by-value').value.slice(1)];
    if (!$('by-value').value) return;
    $('by-value-box').hidden = true;
    $('by-key').value = '';
    $('by-key').focus();
    if (!page.view.where.some(([key, value]) => key === term[0] && value === term[1])) page.go({ where: [...page.view.where, term] });
  });
  on('chips', 'click', (event) => {
    const chip = event.target.closest('button');
    if (chip) { page.go({ where: page.view.where.filter((_, i) => i !== Number(chip.dataset.chip)) }); $('by-key').focus(); }
  });
  on('ranges', 'click', (event) => { const range = event.target.dataset.range; if (range) page.go({ range: Number(range), end: null }); });
  on('earlier', 'click', () => page.move(-1));
  on('later', 'click', () => page.move(1));
  on('live', 'click', page.live);
  on('zoom-in', 'click', () => page.matrix.zoomBy(1.4));
  on('zoom-out', 'click', () => page.matrix.zoomBy(1 / 1.4));
  on('zoom-fit', 'click', () => page.matrix.zoomBy(0));
  const table = () => { const pressed = $('as-table').getAttribute('aria-pressed') !== 'true'; $('as-table').setAttribute('aria-pressed', pressed); page.table(pressed); };
  on('as-table', 'click', table);
  on('tabs', 'click', (event) => { const tab = event.target.closest('[data-tab]'); if (tab) page.go({ tab: tab.dataset.tab, ...closed }); });
  on('tabs', 'keydown', (event) => {
    const tabs = [...$('tabs').children], by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + by + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
  on('help-open', 'click', () => $('help').showModal());
  on('skip', 'click', (event) => { event.preventDefault(); $('matrix').focus(); });
  theme(page);

  const cycle = (list, value, by) => list[(list.indexOf(value) + by + list.length) % list.length];
  const metric = (by) => { const next = cycle(METRIC_NAMES, page.view.metric, by); page.go({ metric: next }); announce(METRICS[next].name); };
  const keys = {
    '?': () => $('help').showModal(), g: () => $('matrix').focus(), t: () => $('timeline').focus(), d: () => ($('panel').querySelector('a, [tabindex]') ?? $('panel')).focus(),
    f: () => $('by-key').focus(), m: () => metric(1), M: () => metric(-1), s: swap, v: table, l: page.live, '[': () => page.step(-1), ']': () => page.step(1),
    c: () => { const next = cycle(AGAINST.map(([s]) => s), page.view.against, 1); page.go({ against: next }); announce(AGAINST.find(([s]) => s === next)[1]); },
    o: () => { const next = page.view.sort === 'name' ? 'worst' : 'name'; page.go({ sort: next }); announce(next === 'worst' ? 'worst first' : 'by name'); },
  };
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || $('help').open || event.target.matches('select, input')) return;
    if (event.key === 'Escape') { $('tip').hidden = true; if (page.up()) event.preventDefault(); return; }
    const work = keys[event.key];
    if (work) { event.preventDefault(); work(); }
  });
}

/// The theme is this browser's own matter: it stands in its storage, not in the URL.
function theme(page) {
  const select = $('theme'), root = document.documentElement;
  select.value = root.dataset.theme ?? '';
  select.addEventListener('change', () => {
    if (select.value) root.dataset.theme = select.value; else delete root.dataset.theme;
    try { if (select.value) localStorage.setItem('llama-theme', select.value); else localStorage.removeItem('llama-theme'); } catch { /* kept until the page is closed */ }
    page.redraw();
  });
}
