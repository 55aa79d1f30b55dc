// A made-up fleet behind the API's matrix endpoints, for what the demo's few targets cannot show: 200 x 200 cells, texts
// that try to be markup, suspect and missing cells, servers without a history. It also serves the page's files.
// Run alone: node fleet.mjs [small|large|nasty|empty|none] [PORT]
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';

const FILES = new URL('../../src/http/web/', import.meta.url);
const TYPES = { html: 'text/html; charset=utf-8', css: 'text/css', js: 'text/javascript', svg: 'image/svg+xml' };
export const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
  + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const INTERVAL = 10;
const FIELDS = ['summaries', 'suspects', 'sent', 'lost', 'loss_percent', 'lost_forward', 'lost_reverse', 'late', 'duplicates',
  'reordered', 'not_sent', 'send_failed', 'local_drops', 'rtt_min_ms', 'rtt_mean_ms', 'rtt_p50_ms', 'rtt_p90_ms', 'rtt_p99_ms',
  'rtt_p999_ms', 'rtt_max_ms', 'percentiles', 'ipdv_mean_ms', 'ipdv_max_ms', 'owd_forward_mean_ms', 'owd_reverse_mean_ms',
  'residence_mean_ms', 'lateness_p99_ms', 'lateness_max_ms', 'flows', 'flows_with_loss', 'dscp_changed',
  'syn_acks', 'resets', 'corrupted', 'refused', 'prohibited', 'time_exceeded', 'too_big', 'unreachable', 'class_reports',
  'dscp_changed_forward', 'dscp_changed_reverse', 'dscp_changed_either', 'ecn_marked_forward', 'ecn_marked_reverse',
  'dscp_changed_percent', 'dscp_seen_forward', 'dscp_seen_reverse', 'dscp_seen_either', 'mtu'];
const SEEN = ['dscp_seen_forward', 'dscp_seen_reverse', 'dscp_seen_either', 'mtu'];
const LADDER = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

export const NASTY = [
  '<img src=x onerror="window.broken=1">', '"quotes" and \'more\'', 'two\nlines', '</script><script>window.broken=2</script>',
  "a' OR 1=1; DROP MEASUREMENT raw_stats --", '&lt;b&gt;&#60;', 'a=b&c=d#e%20f', '\u202eright to left', 'x'.repeat(300), '',
];

const noise = (a, b = 0) => {
  let x = Math.imul(a + 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x7f4a7c15, 0xc2b2ae35);
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
  x ^= x >>> 12;
  return (x >>> 0) / 2 ** 32;
};
const iso = (ms) => new Date(ms).toISOString().replace('Z', '000000Z');

function fleet(kind) {
  const sides = {
    small: [['fra1', 'fra2', 'lon1', 'lon2', 'par1', 'ams1', 'nyc1', 'nyc2', 'sgp1', 'sgp2'], 12],
    large: [Array.from({ length: 200 }, (_, i) => `${['fra', 'lon', 'nyc', 'sgp'][i % 4]}${1 + (i >> 2)}`), 200],
    nasty: [NASTY, 6], empty: [[], 0], none: [[], 0],
  };
  const [sources, targets] = sides[kind];
  const region = (rack) => (kind === 'nasty' ? rack : rack.replace(/\d+$/, ''));
  const paths = [];
  sources.forEach((src, s) => {
    for (let d = 0; d < targets; d += 1) {
      const dst = kind === 'nasty' ? `rack${d}` : sources[d % sources.length] + (d >= sources.length ? 'b' : '');
      if (kind !== 'nasty' && noise(s, d * 7 + 3) < 0.03 || dst === src) continue;
      for (const [dscp, size] of kind === 'large' ? [[0, '']] : kind === 'small' && d === 6 ? [[0, '64'], [0, '1400'], [46, '64'], [46, '1400']] : [[0, ''], [46, '']]) {
        const far = region(src) === region(dst.replace(/b$/, '')) ? 0 : 1 + Math.abs(s % 7 - d % 5);
        paths.push({
          n: paths.length, id: (0x5eed000000000000n + BigInt(paths.length)).toString(16), s, d, base: 0.18 + far * (7 + 9 * noise(s % 9, d % 9)),
          src_ip: `10.${s >> 8}.${s & 255}.1`, dst_ip: `10.${100 + (d >> 8)}.${d & 255}.9`, method: kind === 'small' && d === 9 ? 'tcp-syn' : d % 5 === 4 ? 'llama' : 'udp', dscp, size,
          group: region(dst.replace(/b$/, '')) || 'none',
          tags: { src_rack: src, dst_rack: dst, src_region: region(src), dst_region: region(dst.replace(/b$/, '')), rack: dst, team: noise(d) < 0.5 ? 'edge' : 'core' },
        });
      }
    }
  });
  return paths;
}

/// Figures of one path in the interval that ends at `k` * INTERVAL seconds; `age` is how long ago that was.
function measure(p, k, age) {
  const figures = { sent: 480, lost: 0, forward: 0, reverse: 0, base: p.base * (1 + 0.1 * Math.sin(k / 900)), suspect: null, drops: 0, late: 0.05, told: {} };
  const r = noise(p.n, k);
  if (r > 0.985 && p.s !== 5) { // one source loses nothing by chance: what the checks compare with
    figures.lost = 1; figures.reverse = 1; }
  if (p.s % 50 === 2 && p.d % 40 === 5 && age < 2400) { figures.lost += Math.round(9 + 8 * r); figures.forward += Math.round(8 + 6 * r); }
  if (p.d % 60 === 8 && age < 700 && p.dscp === 0) { figures.lost = 480; figures.forward = 480; figures.reverse = 0; }
  if (p.s % 31 === 4 && p.d % 23 === 0 && age < 9000) { figures.lost += Math.round(2 * r); figures.base *= 1.7; }
  if (age > 30000 && age < 31500) { figures.lost += Math.round(6 * r); figures.forward += Math.round(5 * r); }
  if (p.s % 97 === 7 && age < 900) { figures.suspect = 'local_drops'; figures.drops = 30; figures.lost += Math.round(20 * r); figures.late = 14; }
  const told = (name, n) => { figures.told[name] = n; figures.lost += n; };
  if (p.size === '1400' && p.s === 2) { told('too_big', 240); figures.told.mtu = 1280; }
  if (p.method === 'tcp-syn') {
    if (p.s === 1) { told('refused', 12); told('prohibited', 4); }
    figures.told.syn_acks = Math.max(0, 480 - figures.lost - 7);
    figures.told.resets = Math.min(7, 480 - figures.lost);
  } else figures.told.class_reports = 480 - Math.min(480, figures.lost);
  if (p.dscp === 46 && p.d % 7 === 3 && p.method === 'udp') Object.assign(figures.told, { dscp_changed_forward: 120, dscp_seen_forward: 0, ecn_marked_forward: 12 });
  if (p.dscp === 46 && p.d === 9) Object.assign(figures.told, { dscp_changed_either: Math.min(60, 480 - figures.lost), dscp_seen_either: 8 });
  return figures;
}

function join(list, kind) {
  const f = Object.fromEntries(FIELDS.map((name) => [name, 0]));
  let weight = 0, mean = 0;
  f.rtt_min_ms = Infinity;
  for (const name of SEEN) f[name] = null;
  for (const [p, m] of list) {
    f.summaries += 1; f.suspects += m.suspect ? 1 : 0; f.sent += m.sent; f.lost += Math.min(m.lost, m.sent);
    f.lost_forward += m.forward; f.lost_reverse += m.reverse; f.local_drops += m.drops; f.not_sent += m.suspect ? 3 : 0;
    f.lateness_p99_ms = Math.max(f.lateness_p99_ms, m.late); f.lateness_max_ms = Math.max(f.lateness_max_ms, m.late * 3);
    f.flows += 16; f.flows_with_loss += Math.min(16, m.lost);
    for (const [name, n] of Object.entries(m.told)) f[name] = SEEN.includes(name) ? n : f[name] + n;
    const got = m.sent - m.lost;
    if (got <= 0) continue;
    weight += got; mean += got * m.base * 1.06;
    f.rtt_min_ms = Math.min(f.rtt_min_ms, m.base); f.rtt_p50_ms = Math.max(f.rtt_p50_ms, m.base * 1.04);
    f.rtt_p99_ms = Math.max(f.rtt_p99_ms, m.base * (1.2 + 0.6 * noise(p.n, m.sent + Math.round(m.base * 1e3))));
    f.rtt_max_ms = Math.max(f.rtt_max_ms, m.base * 2.1);
    f.ipdv_mean_ms = Math.max(f.ipdv_mean_ms, m.base * 0.02 + 0.01); f.ipdv_max_ms = f.ipdv_mean_ms * 30;
  }
  f.dscp_changed = f.dscp_changed_forward + f.dscp_changed_reverse + f.dscp_changed_either;
  const share = (changed, told) => 100 * changed / Math.max(1, changed, told), errors = f.refused + f.prohibited + f.too_big, replied = f.sent - f.lost;
  f.dscp_changed_percent = replied + errors ? Math.max(share(f.dscp_changed_forward, f.class_reports + errors), share(f.dscp_changed_either, replied)) : null;
  f.loss_percent = f.sent ? 100 * f.lost / f.sent : 0;
  f.rtt_mean_ms = weight ? mean / weight : null;
  f.rtt_p90_ms = f.rtt_p50_ms * 1.1; f.rtt_p999_ms = f.rtt_p99_ms * 1.2;
  f.owd_forward_mean_ms = weight ? f.rtt_mean_ms / 2 : null; f.owd_reverse_mean_ms = f.owd_forward_mean_ms; f.residence_mean_ms = 0.02;
  f.percentiles = weight ? (list[0][0].method === 'llama' ? 'bound' : 'exact') : null;
  if (!weight) for (const name of FIELDS) if (/^(rtt|ipdv|owd)/.test(name)) f[name] = null;
  return f;
}

export function serve(kind, port = 0) {
  const paths = fleet(kind);
  const started = Date.now();
  const shift = { intervals: 0 };
  const newest = () => Math.floor(Date.now() / 1000 / INTERVAL) * INTERVAL * 1000 + shift.intervals * INTERVAL * 1000;
  const oldest = started - 26 * 3600e3;
  const streams = new Set();
  const asked = [];
  const valueOf = (p, key) => String(['src_ip', 'dst_ip', 'method', 'dscp', 'size', 'group'].includes(key) ? p[key] : p.tags[key] ?? '');

  const instant = (text) => (/^[\d.]+$/.test(text) ? Number(text) * 1000 : Date.parse(text));
  function window(q, by = 0) {
    let to = newest(), from;
    if (q.has('from')) { from = instant(q.get('from')); if (q.has('to')) to = instant(q.get('to')); } else {
      if (q.has('at')) to = Math.floor(instant(q.get('at')) / 1000 / INTERVAL) * INTERVAL * 1000;
      from = to - (Number(q.get('span')) || INTERVAL) * 1000;
    }
    return { from: Math.min(from, to) - by * 1000, to: to - by * 1000 };
  }
  function chosen(q) {
    const terms = new Map();
    for (const where of q.getAll('where')) {
      const at = where.indexOf('=');
      const key = where.slice(0, at);
      terms.set(key, [...(terms.get(key) ?? []), where.slice(at + 1)]);
    }
    return paths.filter((p) => (!q.has('path') || p.id === q.get('path')) && [...terms].every(([key, values]) => values.includes(valueOf(p, key))));
  }
  const instants = ({ from, to }, most = 5) => {
    const last = Math.floor(to / 1000 / INTERVAL), count = Math.max(1, Math.min(most, Math.floor((to - from) / 1000 / INTERVAL)));
    const step = Math.max(1, Math.floor((to - from) / 1000 / INTERVAL / count));
    return Array.from({ length: count }, (_, i) => last - i * step).filter((k) => k * INTERVAL * 1000 >= oldest && k * INTERVAL * 1000 <= newest());
  };
  const at = (list, ks) => ks.flatMap((k) => list.map((p) => [p, measure(p, k, (newest() / 1000 - k * INTERVAL))]));
  const head = (w) => ({ from: iso(w.from), to: iso(w.to), resolution_s: INTERVAL });

  function matrix(q, by) {
    const w = window(q, by), list = chosen(q), ks = instants(w, kind === 'large' ? 1 : 4);
    const axis = (key) => [...new Set(list.map((p) => valueOf(p, key)))].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    const rows = axis(q.get('rows')), columns = axis(q.get('columns'));
    const groups = new Map();
    const r = new Map(rows.map((v, i) => [v, i])), c = new Map(columns.map((v, i) => [v, i]));
    if (ks.length) for (const p of list) {
      const key = r.get(valueOf(p, q.get('rows'))) * columns.length + c.get(valueOf(p, q.get('columns')));
      if (groups.has(key)) groups.get(key).push(p); else groups.set(key, [p]);
    }
    const cells = [...groups].sort((a, b) => a[0] - b[0]).map(([key, ps]) => {
      const f = join(at(ps, ks), kind);
      return [Math.floor(key / columns.length), key % columns.length, ps.length, iso(!q.has('span') && key === r.get('nyc') * columns.length + c.get('fra') ? w.to - 2 * INTERVAL * 1000 : w.to), ...FIELDS.map((name) => f[name])];
    });
    return { ...head(w), rows: { key: q.get('rows'), values: rows }, columns: { key: q.get('columns'), values: columns }, left_out: 0, fields: ['row', 'column', 'paths', 'stalest', ...FIELDS], cells };
  }
  const histogram = (f) => (f.rtt_min_ms === null ? [] : Array.from({ length: 60 }, (_, i) => {
    const ms = f.rtt_min_ms * (f.rtt_max_ms / f.rtt_min_ms) ** (i / 59);
    return [Math.round(ms * 1e6), Math.round(f.sent * Math.exp(-(((i - 14) / 7) ** 2)) / 12 + (i === 47 ? f.sent / 200 : 0))];
  }).filter(([, n]) => n > 0));
  const flowsOf = (p) => Array.from({ length: 16 }, (_, i) => ({ source: `${p.src_ip}:${33000 + i}`, target: `${p.dst_ip}:8100`, n: p.n * 16 + i }));
  const flowAt = (p, flow, k) => {
    const m = measure(p, k, newest() / 1000 - k * INTERVAL), bad = flow.n % 16 === 5;
    const lost = m.lost >= 480 ? 30 : bad ? Math.min(30, m.lost) : 0;
    return { sent: 30, lost, loss_percent: 100 * lost / 30, lost_forward: bad ? Math.min(lost, m.forward) : 0, lost_reverse: bad ? Math.min(lost, m.reverse) : 0,
      dscp_changed_forward: flow.n % 4 === 0 ? (m.told.dscp_changed_forward ?? 0) / 4 : 0, dscp_changed_reverse: 0,
      rtt_ms: lost === 30 ? null : { samples: 30 - lost, min: m.base, mean: m.base * (1.04 + 0.1 * noise(flow.n, k)), max: m.base * (1.3 + 0.5 * noise(flow.n, k + 1)) } };
  };

  const answers = {
    '/api/v1/matrix/extent': () => {
      const names = ['src_ip', 'dst_ip', 'method', 'dscp', 'size', 'group', ...new Set(paths.flatMap((p) => Object.keys(p.tags)))];
      const keys = names.map((name) => [name, [...new Set(paths.map((p) => valueOf(p, name)))].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))])
        .map(([name, values]) => ({ name, values: values.slice(0, 1000), count: values.length }));
      const suggested = kind === 'small' ? ['src_region', 'dst_region'] : ['src_rack', 'dst_rack'];
      const empty = kind === 'empty';
      return { source: 'history in /var/lib/llama', role: 'collector', oldest: empty ? null : iso(oldest), newest: empty ? null : iso(newest()), interval_s: INTERVAL, paths: paths.length,
        levels: empty ? [] : [{ resolution_s: 10, oldest: iso(oldest) }], keys: empty ? [] : keys, suggested: { rows: suggested[0], columns: suggested[1] } };
    },
    '/api/v1/matrix': (q) => ({ ...matrix(q, 0), before: q.has('before') ? matrix(q, Number(q.get('before'))) : null }),
    '/api/v1/matrix/paths': (q) => {
      const w = window(q), ks = instants(w, 3), by = { loss: 'loss_percent', lost: 'lost', rtt_mean: 'rtt_mean_ms', rtt_p50: 'rtt_p50_ms', rtt_p99: 'rtt_p99_ms', ipdv: 'ipdv_mean_ms', lateness: 'lateness_p99_ms', dscp_changed: 'dscp_changed_percent' }[q.get('order') ?? 'loss'];
      const list = chosen(q).map((p) => [p, join(at([p], ks), kind)]).sort((a, b) => b[1][by] - a[1][by]);
      return { ...head(w), total: list.length, fields: ['id', 'src_ip', 'dst_ip', 'method', 'dscp', 'size', 'group', 'tags', 'newest', ...FIELDS],
        paths: (ks.length ? list : []).slice(0, Number(q.get('limit')) || 100).map(([p, f]) => [p.id, p.src_ip, p.dst_ip, p.method, p.dscp, p.size === '' ? null : Number(p.size), p.group, p.tags, iso(w.to), ...FIELDS.map((name) => f[name])]) };
    },
    '/api/v1/matrix/flows': (q) => {
      const w = window(q), ks = instants(w, 1), few = chosen(q).map((p) => [p, measure(p, ks[0], newest() / 1000 - ks[0] * INTERVAL).lost]).sort((a, b) => b[1] - a[1]).slice(0, 40);
      const list = few.flatMap(([p]) => flowsOf(p).map((flow) => ({ path: p.id, src_ip: p.src_ip, dst_ip: p.dst_ip, method: p.method, group: p.group, tags: p.tags, source: flow.source, target: flow.target, dscp: p.dscp, intervals: 1, ...flowAt(p, flow, ks[0]) })));
      list.sort((a, b) => b.lost - a.lost || (b.rtt_ms?.mean ?? 0) - (a.rtt_ms?.mean ?? 0));
      return { ...head(w), total: list.length, flows: list.slice(0, Number(q.get('limit')) || 100) };
    },
    '/api/v1/matrix/series': (q) => {
      const w = window(q), most = Number(q.get('points')) || 300, list = chosen(q), few = list.filter((_, i) => i % Math.ceil(list.length / 60) === 0);
      const step = LADDER.find((s) => s >= INTERVAL && (w.to - w.from) / 1000 / s <= most) * 1000;
      const points = [];
      for (let end = Math.ceil((w.from + 1) / step) * step; end - step < w.to; end += step) {
        const to = Math.min(end, newest());
        if (to < oldest || (kind === 'small' && newest() - to > 5e6 && newest() - to < 5.2e6)) continue;
        const f = join(at(few, [Math.floor(to / 1000 / INTERVAL)]), kind);
        points.push([iso(end), ...FIELDS.map((name) => f[name])]);
      }
      const total = join(at(few, instants(w)), kind);
      return { ...head(w), step_s: step / 1000, fields: ['end', ...FIELDS], points: few.length ? points : [], total: { ...total, rtt_histogram: histogram(total) } };
    },
    '/api/v1/matrix/flow': (q) => {
      const w = window(q), p = paths.find((one) => one.id === q.get('path')), flow = p && flowsOf(p).find((one) => one.source === q.get('source'));
      const points = [];
      if (flow) for (let k = Math.ceil(w.from / 1000 / INTERVAL); k * INTERVAL * 1000 <= w.to; k += 1) points.push({ end: iso(k * INTERVAL * 1000), ...flowAt(p, flow, k) });
      return { ...head(w), path: q.get('path'), source: q.get('source'), target: q.get('target'), dscp: Number(q.get('dscp')), points };
    },
    '/api/v1/matrix/probers': (q) => {
      const w = window(q), ks = instants(w, 1), by = Map.groupBy ? Map.groupBy(paths, (p) => p.src_ip) : paths.reduce((m, p) => m.set(p.src_ip, [...(m.get(p.src_ip) ?? []), p]), new Map());
      return { ...head(w), probers: [...by].map(([src_ip, list]) => {
        const f = join(at(list.slice(0, 4), ks), kind);
        return { src_ip, paths: list.length, newest: iso(w.to), summaries: list.length, suspects: f.suspects ? list.length : 0, suspect: { local_drops: f.suspects ? list.length : 0, not_sent: f.suspects ? 3 : 0, stamps_lost: 0, clock_step: 0, tally_dropped: 0 },
          not_sent: f.not_sent, send_failed: 0, local_drops: f.local_drops, lateness_p99_ms: f.lateness_p99_ms, lateness_max_ms: f.lateness_max_ms };
      }) };
    },
  };

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://localhost');
    asked.push(request.url);
    const send = (status, type, body) => response.writeHead(status, { 'Content-Type': type, 'Cache-Control': 'no-store', 'Content-Security-Policy': CSP, 'X-Content-Type-Options': 'nosniff' }).end(body);
    const json = (status, value) => send(status, 'application/json', JSON.stringify(value));
    try {
      if (url.pathname === '/' || url.pathname.startsWith('/ui/')) {
        const name = url.pathname === '/' ? 'index.html' : url.pathname.slice(4);
        return send(200, TYPES[name.split('.').pop()], await readFile(new URL(name, FILES)));
      }
      if (url.pathname === '/api/v1/') return json(200, { endpoints: ['health', 'build'].map((name) => ({ method: 'GET', path: `/api/v1/${name}`, what: '' })) });
      if (url.pathname === '/api/v1/build') return json(200, { name: 'llama', version: '0.1.0' });
      if (url.pathname === '/api/v1/health') return json(200, { status: kind === 'small' ? 'degraded' : 'ok', reasons: kind === 'small' ? [{ name: 'local_drops', meaning: 'full sockets dropped replies', count: 12, since: iso(Date.now() - 4e5), now: true }] : [], uptime_s: 91830.25 });
      if (kind === 'none') return json(404, { error: 'this program keeps no history', remedy: 'start with --history DIR' });
      if (url.pathname === '/api/v1/events') {
        response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
        response.write('retry: 200\n\n');
        const tell = () => response.write(`event: interval\ndata: ${JSON.stringify(kind === 'empty' ? { newest: null, interval_s: 0 } : { newest: iso(newest()), interval_s: INTERVAL })}\n\n`);
        tell();
        let last = newest();
        const timer = setInterval(() => { if (newest() !== last) { last = newest(); tell(); } }, 100);
        streams.add(response);
        return response.on('close', () => { clearInterval(timer); streams.delete(response); });
      }
      const answer = answers[url.pathname];
      return answer ? json(200, answer(url.searchParams)) : json(404, { error: 'not found', remedy: 'GET /api/v1/ lists what there is' });
    } catch (error) {
      return json(500, { error: String(error?.stack ?? error), remedy: 'mend fleet.mjs' });
    }
  });
  return new Promise((done) => {
    server.listen(port, '127.0.0.1', () => done({
      url: `http://127.0.0.1:${server.address().port}/`,
      asked,
      /// Lets this many intervals pass at once.
      pass(intervals) { shift.intervals += intervals; },
      close() { for (const stream of streams) stream.end(); server.closeAllConnections(); return new Promise((closed) => server.close(closed)); },
    }));
  });
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const running = await serve(process.argv[2] ?? 'small', Number(process.argv[3] ?? 8090));
  console.log(running.url);
}
