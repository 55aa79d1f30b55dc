// Charts over time and histograms, drawn on a canvas, with the numbers at the pointer as text beside them.

import { cut, el, surface } from './dom.js';
import { clock, count, day, ms, percent } from './format.js';
import { lossColour, palette } from './scale.js';

const FONT = '11px system-ui, sans-serif';
const RIGHT = 8, LEFT = 46;

/// Height of a loss, 0 to 1: by decades, from 0.01 % to 100 %; whatever was lost is seen.
export const lossHeight = (value) => (value > 0 ? Math.max(0.1, Math.min(1, 0.1 + 0.9 * (Math.log10(value) + 2) / 4)) : 0);

/// Ticks of time: a round distance, each with its text.
export function timeTicks(from, to, width) {
  const steps = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800].map((s) => s * 1000);
  const step = steps.find((s) => (to - from) / s <= width / 76) ?? steps.at(-1), ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push([at, at % 86400e3 === 0 ? day(at).slice(5) : clock(at).slice(0, step < 60e3 ? 8 : 5)]);
  return ticks;
}

export function drawTicks(context, from, to, left, width, bottom, colours) {
  context.font = FONT;
  context.fillStyle = colours.dim;
  context.textAlign = 'center';
  context.textBaseline = 'top';
  for (const [at, text] of timeTicks(from, to, width)) {
    const x = left + (at - from) / (to - from) * width;
    const half = context.measureText(text).width / 2;
    if (x - half < left - 20 || x + half > left + width + RIGHT) continue;
    context.fillText(text, x, bottom + 4);
    context.fillRect(Math.round(x), bottom, 1, 3);
  }
}

/// A round scale from low to high: linear, or by decades where they are far apart.
function axis(low, high, height) {
  if (!(high > 0)) return { y: () => height, ticks: [] };
  if (high / Math.max(low, 1e-6) > 25) {
    const [a, b] = [Math.floor(Math.log10(Math.max(low, 1e-4))), Math.ceil(Math.log10(high))];
    const ticks = Array.from({ length: b - a + 1 }, (_, i) => 10 ** (a + i));
    return { y: (v) => height - height * (Math.log10(Math.max(v, 10 ** a)) - a) / (b - a), ticks: ticks.filter((_, i) => (b - a - i) % Math.ceil((b - a) / 4) === 0) };
  }
  const rough = high * 1.05 / 3, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 2.5, 5, 10].find((f) => f * power >= rough) * power;
  const top = Math.ceil(high / step) * step;
  return { y: (v) => height * (1 - v / top), ticks: Array.from({ length: Math.round(top / step) + 1 }, (_, i) => i * step) };
}

/// A chart of loss bars over delays. `points`: {end, loss, suspect, low, middle, high, top} with `end` in ms since 1970
/// and delays in ms or null; `window` is marked; `pick(at)` is called with the end of the point that was clicked.
export function timeChart({ points, step, from, to, window, words, pick }) {
  const canvas = el('canvas', { role: 'img' });
  const readout = el('p', { class: 'readout', 'aria-live': 'off' });
  const node = el('figure', { class: 'chart' }, canvas, readout);
  const BARS = 46, DELAYS = 104, BETWEEN = 12, AXIS = 20;
  const worst = points.reduce((a, p) => (p.loss > (a?.loss ?? -1) ? p : a), null);
  const summary = worst ? `${words.what}, ${points.length} points; worst loss ${percent(worst.loss)} at ${clock(worst.end)} UTC` : `${words.what}: no data`;
  canvas.setAttribute('aria-label', summary);
  let at = null;
  const values = points.flatMap((p) => [p.low, p.top]).filter((v) => v != null);
  const height = BARS + BETWEEN + DELAYS + AXIS;
  const draw = () => {
    const total = node.clientWidth;
    if (!total) return;
    const colours = palette(), context = surface(canvas, total, height), width = total - LEFT - RIGHT;
    const x = (t) => LEFT + (t - from) / (to - from) * width, bar = Math.max(1, step * 1000 / (to - from) * width);
    const scale = axis(Math.min(...values), Math.max(0, ...values), DELAYS), base = BARS + BETWEEN;
    context.font = FONT;
    context.textBaseline = 'middle';
    context.textAlign = 'right';
    if (window) { context.fillStyle = colours.band; const l = Math.max(LEFT, x(window.from)); context.fillRect(l, 0, Math.max(2, Math.min(LEFT + width, x(window.to)) - l), BARS + BETWEEN + DELAYS); }
    for (const [value, text] of [[100, '100 %'], [1, '1 %'], [0.01, '0.01']]) {
      const y = Math.round(BARS * (1 - lossHeight(value))) + 0.5;
      context.fillStyle = colours.line; context.fillRect(LEFT, y, width, 1);
      context.fillStyle = colours.dim; context.fillText(text, LEFT - 6, Math.max(6, y));
    }
    for (const tick of scale.ticks) {
      const y = Math.round(base + scale.y(tick));
      context.fillStyle = colours.line; context.fillRect(LEFT, y, width, 1);
      context.fillStyle = colours.dim; context.fillText(tick === 0 ? '0 ms' : ms(tick).replace(/\.0+ /, ' '), LEFT - 6, y, LEFT - 8);
    }
    context.save();
    context.beginPath(); context.rect(LEFT, 0, width, height); context.clip();
    const band = (a, b, fill) => {
      context.fillStyle = fill;
      for (const p of points) {
        if (p[a] == null || p[b] == null) continue;
        const [high, low] = [base + scale.y(p[b]), base + scale.y(p[a])];
        context.fillRect(x(p.end) - bar, high, bar + 0.3, Math.max(1, low - high));
      }
    };
    band('low', 'top', colours.band);
    band('low', 'high', colours.band2);
    context.strokeStyle = colours.accent;
    context.lineWidth = 1.5;
    context.beginPath();
    points.forEach((p, i) => {
      if (p.middle == null) return;
      const y = base + scale.y(p.middle), joined = i > 0 && points[i - 1].middle != null && p.end - points[i - 1].end < step * 1500;
      if (joined) context.lineTo(x(p.end) - bar / 2, y); else { context.moveTo(x(p.end) - bar, y); context.lineTo(x(p.end) - bar / 2, y); }
    });
    context.stroke();
    for (const p of points) {
      const h = BARS * lossHeight(p.loss);
      if (h) { context.fillStyle = lossColour(p.loss, colours); context.fillRect(x(p.end) - bar + 0.25, BARS - h, Math.max(1, bar - 0.5), h); }
      if (p.suspect) { context.fillStyle = colours.dim; context.fillRect(x(p.end) - bar, BARS + 2, Math.max(1, bar), 3); }
    }
    if (at) { context.fillStyle = colours.ink; context.fillRect(Math.round(x(at.end) - bar / 2), 0, 1, base + DELAYS); }
    context.restore();
    drawTicks(context, from, to, LEFT, width, base + DELAYS, colours);
  };
  const say = () => { readout.textContent = at ? `${clock(at.end)} UTC  ·  ${words.at(at)}` : words.idle; };
  const nearest = (event) => {
    const box = canvas.getBoundingClientRect(), t = from + (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT) * (to - from);
    return points.find((p) => t <= p.end && t > p.end - step * 1000) ?? null;
  };
  canvas.addEventListener('pointermove', (event) => { const p = nearest(event); if (p !== at) { at = p; draw(); say(); } });
  canvas.addEventListener('pointerleave', () => { at = null; draw(); say(); });
  canvas.addEventListener('click', (event) => { const p = nearest(event); if (p) pick(p.end); });
  say();
  new ResizeObserver(draw).observe(node);
  return node;
}

/// A histogram of round trips over a logarithmic axis; `pairs` are [nanoseconds, count], `marks` [ms, name].
export function histogram(pairs, marks, what) {
  if (!pairs.length) return el('p', { class: 'quiet' }, 'No round trips to distribute: nothing came back in this window.');
  const canvas = el('canvas', { role: 'img', 'aria-label': `${what}: ${count(pairs.reduce((n, p) => n + p[1], 0))} round trips, ${ms(pairs[0][0] / 1e6)} to ${ms(pairs.at(-1)[0] / 1e6)}` });
  const node = el('figure', { class: 'chart' }, canvas);
  const HEIGHT = 84, AXIS = 18, TOP = 14;
  const draw = () => {
    const total = node.clientWidth;
    if (!total) return;
    const colours = palette(), context = surface(canvas, total, HEIGHT + AXIS), width = total - LEFT - RIGHT;
    let [low, high] = [pairs[0][0] / 1e6, pairs.at(-1)[0] / 1e6].map((v) => Math.log10(Math.max(v, 1e-6)));
    if (high - low < 0.2) { low -= 0.1; high += 0.1; }
    const bins = new Float64Array(Math.max(12, Math.min(72, Math.floor(width / 6))));
    for (const [ns, n] of pairs) bins[Math.min(bins.length - 1, Math.floor((Math.log10(Math.max(ns / 1e6, 1e-6)) - low) / (high - low) * bins.length))] += n;
    const most = Math.max(...bins), x = (v) => LEFT + (Math.log10(v) - low) / (high - low) * width;
    context.font = FONT;
    context.fillStyle = colours.accent;
    // a root, so that a single round trip far out is still seen
    bins.forEach((n, i) => { if (n) { const h = Math.max(1.5, (HEIGHT - TOP) * Math.sqrt(n / most)); context.fillRect(LEFT + i * width / bins.length, HEIGHT - h, width / bins.length - 1, h); } });
    context.fillStyle = colours.line;
    context.fillRect(LEFT, HEIGHT, width, 1);
    context.fillStyle = colours.dim;
    context.textBaseline = 'top';
    context.textAlign = 'center';
    let last = -99;
    for (let power = Math.floor(low); power <= Math.ceil(high); power += 1) {
      for (const factor of high - low > 1.5 ? [1] : high - low > 0.8 ? [1, 3] : [1, 1.5, 2, 3, 5, 7]) {
        const value = factor * 10 ** power, at = x(value), text = ms(value).replace(/(\.\d*?)0+ /, '$1 ').replace('. ', ' ');
        if (at < LEFT - 1 || at > LEFT + width + 1 || at - last < 52) continue;
        last = at;
        context.fillText(text, Math.min(at, LEFT + width - 16), HEIGHT + 4);
        context.fillRect(Math.round(at), HEIGHT, 1, 3);
      }
    }
    context.textAlign = 'right';
    context.fillText(cut(context, count(most), LEFT - 8), LEFT - 6, TOP - 4);
    let free = -99;
    for (const [value, name] of marks) {
      if (!(value > 0)) continue;
      const at = Math.max(LEFT, Math.min(LEFT + width, x(value)));
      context.fillStyle = colours.ink;
      context.fillRect(Math.round(at), TOP - 2, 1, HEIGHT - TOP + 2);
      const w = context.measureText(name).width;
      if (at - w / 2 > free) { context.textAlign = at + w > LEFT + width ? 'right' : 'center'; context.fillText(name, at, 0); free = at + w / 2 + 6; }
    }
  };
  new ResizeObserver(draw).observe(node);
  return node;
}
