// The timeline under the matrix: loss over all that is shown, and the instant or span that the matrix is of.

import { $, surface } from './dom.js';
import { between, clock, ms, percent } from './format.js';
import { drawTicks, lossHeight } from './chart.js';
import { lossColour, palette } from './scale.js';

const HEIGHT = 92, BARS = 62, AXIS = 30, LEFT = 46, RIGHT = 10; // the axis is also where a span is drawn

export class Timeline {
  /// `handlers`: scrub(at, final) with the end of a step or null for live, brush(from, to).
  constructor(handlers) {
    this.handlers = handlers;
    this.box = $('timeline');
    this.canvas = $('timeline-canvas');
    this.box.addEventListener('pointerdown', (event) => this.down(event));
    this.box.addEventListener('pointermove', (event) => this.moved(event));
    this.box.addEventListener('pointerup', (event) => this.up(event));
    this.box.addEventListener('pointercancel', () => { this.drag = null; this.draw(); });
    this.box.addEventListener('pointerleave', () => { this.hover = null; this.draw(); });
    this.box.addEventListener('keydown', (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /// `data`: {from, to, step (s), points, metric, field name of a line or null}; `window`: {from, to}, `live`.
  show(data) { this.data = data; this.draw(); }

  mark(window, live) {
    this.window = window;
    this.live = live;
    this.draw();
    if (!this.data) return;
    const point = this.pointAt(window.to);
    this.box.setAttribute('aria-valuemin', Math.round(this.data.from / 1000));
    this.box.setAttribute('aria-valuemax', Math.round(this.data.to / 1000));
    this.box.setAttribute('aria-valuenow', Math.round(window.to / 1000));
    this.box.setAttribute('aria-valuetext', `${live ? 'live, ' : ''}${between(window.from, window.to)}${point ? `, loss ${percent(point.loss)}` : ''}`);
  }

  pointAt(at) { return this.data?.points.find((p) => at <= p.end && at > p.end - this.data.step * 1000); }

  x(at) { return LEFT + (at - this.data.from) / (this.data.to - this.data.from) * this.wide; }

  draw() {
    if (!this.data || this.drawing) return;
    this.drawing = requestAnimationFrame(() => { this.drawing = 0; this.drawNow(); });
  }

  drawNow() {
    const total = this.box.clientWidth;
    if (!total) return;
    const { from, to, step, points, line } = this.data, colours = palette();
    const context = surface(this.canvas, total, HEIGHT);
    this.wide = total - LEFT - RIGHT;
    const bar = Math.max(1, step * 1000 / (to - from) * this.wide);
    context.font = '11px system-ui, sans-serif';
    context.textBaseline = 'middle';
    context.textAlign = 'right';
    for (const [value, text] of [[100, '100 %'], [1, '1 %'], [0.01, '0.01 %']]) {
      const y = Math.round(BARS * (1 - lossHeight(value))) + 0.5;
      context.fillStyle = colours.line; context.fillRect(LEFT, y, this.wide, 1);
      context.fillStyle = colours.dim; context.fillText(text, LEFT - 6, Math.max(7, y));
    }
    context.fillStyle = colours.line;
    context.fillRect(LEFT, BARS, this.wide, 1);
    context.save();
    context.beginPath(); context.rect(LEFT, 0, this.wide, HEIGHT); context.clip();
    for (const p of points) {
      const x = this.x(p.end) - bar, h = BARS * lossHeight(p.loss);
      if (h) { context.fillStyle = lossColour(p.loss, colours); context.fillRect(x + 0.25, BARS - h, Math.max(1, bar - 0.5), h); }
      if (p.suspect) { context.fillStyle = colours.dim; context.fillRect(x, BARS + 2, Math.max(1, bar), 3); }
    }
    this.gaps(context, bar, colours);
    if (line) this.line(context, line, bar, colours);
    const window = this.drag?.brush ? { from: Math.min(...this.drag.brush), to: Math.max(...this.drag.brush) } : this.window;
    if (window) {
      const [a, b] = [this.x(window.from), Math.max(this.x(window.to), this.x(window.from) + 2)];
      context.fillStyle = colours.band2;
      context.fillRect(a, 0, b - a, BARS + 6);
      context.fillStyle = colours.accent;
      context.fillRect(b - 2, 0, 2, BARS + 8);
      if (b - a > 8) context.fillRect(a, 0, 1, BARS + 8);
      context.beginPath(); context.moveTo(b - 7, 0); context.lineTo(b + 5, 0); context.lineTo(b - 1, 8); context.fill();
    }
    if (this.hover) { context.fillStyle = colours.ink; context.fillRect(Math.round(this.x(this.hover.end) - bar / 2), 0, 1, BARS); }
    context.restore();
    drawTicks(context, from, to, LEFT, this.wide, BARS + 8, colours);
    this.say();
  }

  /// Stretches of time in which nothing was measured.
  gaps(context, bar, colours) {
    const { from, to, step, points } = this.data;
    const ends = [from, ...points.map((p) => p.end), to];
    context.fillStyle = colours.line;
    for (let i = 1; i < ends.length; i += 1) {
      const last = i === ends.length - 1;
      if (ends[i] - ends[i - 1] < step * 1500) continue;
      const [a, b] = [this.x(ends[i - 1]), this.x(ends[i]) - (last ? 0 : bar)];
      for (let x = a; x < b; x += 4) context.fillRect(x, BARS - 8, 1, 8);
      if (b - a > 60) { context.textAlign = 'center'; context.fillStyle = colours.dim; context.fillText('no data', (a + b) / 2, BARS - 18); context.fillStyle = colours.line; }
    }
  }

  line(context, { field }, bar, colours) {
    const { points, step } = this.data, values = points.map((p) => p[field]).filter((v) => v != null);
    if (!values.length) return;
    const high = Math.max(...values) * 1.1 || 1;
    context.strokeStyle = colours.accent;
    context.lineWidth = 1.25;
    context.beginPath();
    points.forEach((p, i) => {
      if (p[field] == null) return;
      const [x, y] = [this.x(p.end) - bar / 2, BARS * (1 - p[field] / high)];
      if (i && points[i - 1][field] != null && p.end - points[i - 1].end < step * 1500) context.lineTo(x, y); else context.moveTo(x, y);
    });
    context.stroke();
  }

  say() {
    const at = this.hover, { line } = this.data;
    const text = at ? `${between(at.end - this.data.step * 1000, at.end)} · loss ${percent(at.loss)} (${at.lost} of ${at.sent})${line ? ` · ${line.name} ${ms(at[line.field])}` : ''}${at.suspect ? ' · partly suspect' : ''}`
      : `${line ? `Bars: loss. Line: ${line.name}, up to ${ms(Math.max(0, ...this.data.points.map((p) => p[line.field] ?? 0)))}. ` : ''}Click or drag: an instant. Drag on the times below: a span.`;
    if ($('timeline-readout').textContent !== text) $('timeline-readout').textContent = text;
  }

  time(event) {
    const box = this.box.getBoundingClientRect(), { from, to } = this.data;
    return Math.max(from, Math.min(to, from + (event.clientX - box.left - LEFT) / this.wide * (to - from)));
  }

  /// The end of the step that an instant is in; null for live when it is the last.
  snap(at) {
    const step = this.data.step * 1000, end = Math.ceil(at / step) * step;
    return end >= this.data.newest ? null : end;
  }

  down(event) {
    if (!this.data || event.button !== 0) return;
    this.box.setPointerCapture(event.pointerId);
    const at = this.time(event), brush = event.shiftKey || event.clientY - this.box.getBoundingClientRect().top > HEIGHT - AXIS + 4;
    this.drag = { brush: brush ? [at, at] : null };
    if (!brush) this.handlers.scrub(this.snap(at), false);
  }

  moved(event) {
    if (!this.data) return;
    const at = this.time(event);
    this.box.classList.toggle('brushing', event.clientY - this.box.getBoundingClientRect().top > HEIGHT - AXIS + 4);
    if (this.drag?.brush) this.drag.brush[1] = at;
    else if (this.drag) this.handlers.scrub(this.snap(at), false);
    else this.hover = this.pointAt(at) ?? null;
    this.draw();
  }

  up(event) {
    if (!this.drag) return;
    const { brush } = this.drag, at = this.time(event);
    this.drag = null;
    if (brush && Math.abs(brush[1] - brush[0]) / (this.data.to - this.data.from) * this.wide > 4) {
      const step = this.data.step * 1000;
      this.handlers.brush(Math.floor(Math.min(...brush) / step) * step, Math.min(Math.ceil(Math.max(...brush) / step) * step, this.data.newest));
    } else this.handlers.scrub(this.snap(at), true);
    this.draw();
  }

  key(event) {
    if (!this.data || event.altKey || event.metaKey || event.ctrlKey) return;
    const step = this.data.step * 1000, { to } = this.window, width = this.window.to - this.window.from;
    const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10 }[event.key];
    if (by && event.shiftKey) {
      const longer = width - by * step;
      if (longer >= step) this.handlers.brush(to - longer, to);
    } else if (by) this.handlers.scrub(this.snap(Math.max(this.data.from + step, (Math.ceil(to / step) + by) * step)), true);
    else if (event.key === 'Home') this.handlers.scrub(this.snap(this.data.from + step), true);
    else if (event.key === 'End') this.handlers.scrub(null, true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /// The words for an instant, for who cannot see it.
  words() { return this.live ? 'live' : `at ${clock(this.window.to)} UTC`; }
}
