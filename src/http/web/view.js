// The view: all that decides what is shown, and its text in the URL's fragment. Only the theme is not part of it.

export const RANGES = [900, 3600, 21600, 86400];
export const METRIC_NAMES = ['loss', 'rtt_mean', 'rtt_p50', 'rtt_p99', 'rtt_max', 'ipdv', 'dscp'];
const TABS = ['paths', 'flows', 'probers'];

/// What is shown when the URL says nothing.
export const START = Object.freeze({
  rows: null, columns: null, // keys; null: as the server suggests
  metric: 'loss', against: 0, // seconds earlier to compare with; 0: no comparison
  where: [], // [key, value]
  at: null, span: null, // milliseconds since 1970, null: live; seconds, null: one step of the timeline
  range: null, end: null, // the timeline: seconds, null: an hour, or less while there is less; its right edge, null: the newest
  sort: 'name', tab: 'paths',
  row: null, column: null, path: null, flow: null, // drill-down; flow: {source, target, dscp}
});

const instant = (text) => { const at = Date.parse(text ?? ''); return Number.isNaN(at) ? null : at; };
const within = (text, low, high) => { const n = Number(text); return text && n >= low && n <= high ? n : null; };

export function parse(fragment) {
  const q = new URLSearchParams(fragment.replace(/^#/, ''));
  const one = (name, known, otherwise) => (known.includes(q.get(name)) ? q.get(name) : otherwise);
  const view = { ...START };
  view.rows = q.get('rows') || null;
  view.columns = q.get('columns') || null;
  view.metric = one('metric', METRIC_NAMES, START.metric);
  view.against = within(q.get('against'), 1, 366 * 86400) ?? 0;
  view.where = q.getAll('where').filter((term) => term.includes('=')).map((term) => { const at = term.indexOf('='); return [term.slice(0, at), term.slice(at + 1)]; });
  view.at = instant(q.get('at'));
  view.span = within(q.get('span'), 0.1, 366 * 86400);
  view.range = within(q.get('range'), 10, 366 * 86400) ?? null;
  view.end = instant(q.get('end'));
  view.sort = one('sort', ['name', 'worst'], START.sort);
  view.tab = one('tab', TABS, START.tab);
  if (q.has('row') && q.has('column')) [view.row, view.column] = [q.get('row'), q.get('column')];
  if (/^[0-9a-f]{16}$/.test(q.get('path') ?? '')) view.path = q.get('path');
  if (view.path && q.get('source') && q.get('target')) view.flow = { source: q.get('source'), target: q.get('target'), dscp: Number(q.get('dscp')) || 0 };
  return view;
}

export function write(view) {
  const q = new URLSearchParams();
  for (const name of ['rows', 'columns', 'metric', 'against', 'span', 'range', 'sort', 'tab', 'row', 'column', 'path']) {
    if (view[name] !== START[name]) q.set(name, view[name]);
  }
  for (const name of ['at', 'end']) if (view[name] !== null) q.set(name, new Date(view[name]).toISOString());
  for (const [key, value] of view.where) q.append('where', `${key}=${value}`);
  if (view.flow) for (const [name, value] of Object.entries(view.flow)) q.set(name, value);
  return `#${q}`;
}

/// A link to the view with these changes.
export const link = (view, changes) => write({ ...view, ...changes });

/// One step up in the drill-down; null at the top.
export function up(view) {
  if (view.flow) return { flow: null };
  if (view.path) return { path: null };
  if (view.row !== null) return { row: null, column: null };
  return null;
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/// Points asked for, at most, over the timeline.
export const POINTS = 300;

/// The step that the server takes for a timeline of this length.
export const stepOf = (range, interval) => STEPS.find((step) => step >= interval && range / step <= POINTS) ?? 86400;
