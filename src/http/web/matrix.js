// The matrix: a canvas within a scrolling box, labels that stay, and what a screen reader gets instead of it.
//
// One bitmap has a pixel per cell and is drawn enlarged, so that 200 x 200 cells cost no more than 6 x 6; a second canvas
// above it has the marks of pointer and focus. For screen readers the box is an ARIA grid with one cell: the current one.

import { $, cut, el, oneLine, surface } from './dom.js';
import { keyName, shown } from './format.js';
import { LIGHT, inkOn, palette } from './scale.js';

const FONT = '12px system-ui, sans-serif', BOLD = '600 12px system-ui, sans-serif';
const GAP = 5; // cells smaller than this have no lines between them
const WIDEST = [150, 84], SMALLEST = 1.4, LARGEST_ZOOM = 64;

export class Matrix {
  /// `handlers`: open(row, column), look(cell or null, box), said(row, column) gives the words for a cell.
  constructor(handlers) {
    this.handlers = handlers;
    this.box = $('matrix');
    this.base = $('matrix-cells');
    this.marks = $('matrix-marks');
    this.space = $('matrix-space');
    this.zoom = 1;
    this.focus = [0, 0];
    this.hover = null;
    this.selected = null;
    this.data = null;
    this.box.addEventListener('scroll', () => this.draw(), { passive: true });
    this.box.addEventListener('pointermove', (event) => this.point(event));
    this.box.addEventListener('pointerleave', () => this.hovered(null));
    this.box.addEventListener('click', (event) => { const at = this.at(event); if (at) { this.move(at[0], at[1], true); this.handlers.open(...at); } });
    this.box.addEventListener('wheel', (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoomBy(event.deltaY < 0 ? 1.25 : 0.8, this.offset(event));
    }, { passive: false });
    this.box.addEventListener('keydown', (event) => this.key(event));
    this.box.addEventListener('focus', () => { this.focused = true; this.mark(); this.tell(); this.handlers.look(this.data && this.cell(...this.focus), this.rect(this.focus)); });
    this.box.addEventListener('blur', () => { this.focused = false; this.mark(); this.handlers.look(null); });
    new ResizeObserver(() => this.layout()).observe(this.box);
  }

  /// Shows an answer. `order`: positions of rows and of columns as shown.
  show(answer, scale, order) {
    const { rows, columns, cells } = answer;
    const at = new Map(cells.map((cell) => [cell[0] * columns.values.length + cell[1], cell]));
    const before = this.data;
    this.data = {
      rows: order.rows.map((i) => rows.values[i]), columns: order.columns.map((i) => columns.values[i]), rowKey: rows.key, columnKey: columns.key,
      cell: (r, c) => at.get(order.rows[r] * columns.values.length + order.columns[c]), scale, suspects: answer.fields.indexOf('suspects'),
    };
    const kept = before && before.rowKey === rows.key && before.columnKey === columns.key;
    const row = kept ? this.data.rows.indexOf(before.rows[this.focus[0]]) : -1;
    const column = kept ? this.data.columns.indexOf(before.columns[this.focus[1]]) : -1;
    this.focus = [Math.max(0, row), Math.max(0, column)];
    if (!kept) this.zoom = 1;
    this.hover = null;
    this.paint();
    this.layout();
    this.box.setAttribute('aria-rowcount', this.data.rows.length + 1);
    this.box.setAttribute('aria-colcount', this.data.columns.length + 1);
    this.tell();
  }

  cell(r, c) { return this.data?.cell(r, c); }

  /// The bitmap with a pixel per cell, and what is drawn over it.
  paint() {
    const { rows, columns, scale, suspects } = this.data;
    const bitmap = this.bitmap ??= document.createElement('canvas');
    bitmap.width = Math.max(1, columns.length);
    bitmap.height = Math.max(1, rows.length);
    const context = bitmap.getContext('2d');
    const image = context.createImageData(bitmap.width, bitmap.height);
    const rgb = new Map();
    const colours = palette();
    this.hatched = [[], []]; // by the ink that is seen on them: dark, light
    this.silent = [];
    for (let r = 0; r < rows.length; r += 1) {
      for (let c = 0; c < columns.length; c += 1) {
        const cell = this.cell(r, c);
        if (!cell) continue;
        const value = scale.value(cell);
        const colour = value === undefined ? colours.card : value === null ? colours.silent : scale.colour(value);
        if (!rgb.has(colour)) rgb.set(colour, [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)));
        image.data.set(rgb.get(colour), 4 * (r * columns.length + c));
        image.data[4 * (r * columns.length + c) + 3] = 255;
        if (cell[suspects] > 0) this.hatched[inkOn(colour) === LIGHT ? 1 : 0].push([r, c]);
        if (value == null) this.silent.push([r, c, value]);
      }
    }
    context.putImageData(image, 0, 0);
  }

  /// Sizes: of labels by their texts, of cells so that all fit, times the zoom.
  layout() {
    if (!this.data || !this.box.clientWidth) return;
    const { rows, columns, rowKey, columnKey } = this.data;
    const measure = this.base.getContext('2d');
    measure.font = FONT;
    const widest = (values, key) => Math.max(24, ...values.map((value) => measure.measureText(oneLine(shown(key, value)).slice(0, 60)).width));
    this.width = this.box.clientWidth;
    this.height = this.box.clientHeight;
    const [row, column] = [widest(rows, rowKey), widest(columns, columnKey)];
    const title = measure.measureText(`${keyName(rowKey)} ↓`).width;
    this.left = Math.round(Math.min(Math.max(row, title) + 18, Math.max(70, this.width * 0.24)));
    const free = Math.max(20, this.width - this.left - 2);
    const fit = Math.min(WIDEST[0], free / columns.length);
    this.upright = Math.max(SMALLEST, fit * this.zoom) < Math.min(column, 90) + 8;
    this.top = Math.round((this.upright ? Math.min(column, 104, this.height * 0.35) + 14 : 40));
    const fitHeight = Math.min(WIDEST[1], (this.height - this.top - 2) / rows.length);
    this.fit = [fit, fitHeight];
    this.cw = Math.max(SMALLEST, fit * this.zoom);
    this.ch = Math.max(SMALLEST, fitHeight * this.zoom);
    this.space.style.width = `${Math.floor(this.left + this.cw * columns.length)}px`;
    this.space.style.height = `${Math.floor(this.top + this.ch * rows.length)}px`;
    [this.box.dataset.left, this.box.dataset.top] = [this.left, this.top]; // where the cells begin, for who looks from outside
    this.draw();
  }

  zoomBy(factor, [x, y] = [this.width / 2, this.height / 2]) {
    if (!this.data) return;
    const [ox, oy] = [(this.box.scrollLeft + x - this.left) / this.cw, (this.box.scrollTop + y - this.top) / this.ch];
    this.zoom = factor === 0 ? 1 : Math.min(LARGEST_ZOOM, Math.max(1, this.zoom * factor), Math.max(1, 90 / Math.min(...this.fit)));
    this.layout();
    this.box.scrollTo(ox * this.cw - x + this.left, oy * this.ch - y + this.top);
  }

  draw() {
    if (!this.data || !this.cw) return;
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => { this.drawing = 0; this.drawNow(); });
  }

  drawNow() {
    const { rows, columns, rowKey, columnKey, scale } = this.data;
    const { left, top, cw, ch, width, height } = this, colours = palette();
    const context = surface(this.base, width, height);
    const [sx, sy] = [this.box.scrollLeft, this.box.scrollTop];
    const [c0, r0] = [Math.max(0, Math.floor(sx / cw)), Math.max(0, Math.floor(sy / ch))];
    const [c1, r1] = [Math.min(columns.length, Math.ceil((sx + width - left) / cw)), Math.min(rows.length, Math.ceil((sy + height - top) / ch))];
    const x = (c) => left + c * cw - sx, y = (r) => top + r * ch - sy;
    const seen = ([r, c]) => r >= r0 && r < r1 && c >= c0 && c < c1;
    context.save();
    context.beginPath();
    context.rect(left, top, width - left, height - top);
    context.clip();
    context.imageSmoothingEnabled = false;
    if (c1 > c0 && r1 > r0) context.drawImage(this.bitmap, c0, r0, c1 - c0, r1 - r0, x(c0), y(r0), (c1 - c0) * cw, (r1 - r0) * ch);
    if (Math.min(cw, ch) >= 7) this.dots(context, x, y, [c0, c1, r0, r1], colours);
    this.hatch(context, x, y, seen, colours);
    context.strokeStyle = colours.card;
    context.lineWidth = Math.min(cw, ch) > 18 ? 2 : 1;
    context.beginPath();
    if (cw >= GAP) for (let c = c0; c <= c1; c += 1) { context.moveTo(Math.round(x(c)), top); context.lineTo(Math.round(x(c)), y(r1)); }
    if (ch >= GAP) for (let r = r0; r <= r1; r += 1) { context.moveTo(left, Math.round(y(r))); context.lineTo(x(c1), Math.round(y(r))); }
    context.stroke();
    context.font = FONT;
    context.textAlign = 'center';
    context.textBaseline = 'middle';
    const crosses = Math.min(cw, ch) >= 9 && !(cw >= 62 && ch >= 18);
    if (crosses) for (const [r, c] of this.silent.filter(seen)) { context.fillStyle = colours.card; context.fillText('×', x(c) + cw / 2, y(r) + ch / 2); }
    if (cw >= 46 && ch >= 16) {
      for (let r = r0; r < r1; r += 1) {
        for (let c = c0; c < c1; c += 1) {
          const cell = this.cell(r, c);
          if (!cell) continue;
          const value = scale.value(cell), text = scale.text(cell);
          if (context.measureText(text).width > cw - 6) continue;
          context.fillStyle = value === undefined ? colours.dim : value === null ? '#ffffff' : inkOn(scale.colour(value));
          if (cell[this.data.suspects] > 0 && value != null) {
            const w = context.measureText(text).width + 6;
            const ink = context.fillStyle;
            context.fillStyle = scale.colour(value);
            context.fillRect(x(c) + cw / 2 - w / 2, y(r) + ch / 2 - 8, w, 16);
            context.fillStyle = ink;
          }
          context.fillText(text, x(c) + cw / 2, y(r) + ch / 2);
        }
      }
    }
    context.restore();
    this.labels(context, colours, { x, y, c0, c1, r0, r1, rows, columns, rowKey, columnKey });
    this.mark();
  }

  /// Where no path is: a dot, so that it does not pass for "no loss".
  dots(context, x, y, [c0, c1, r0, r1], colours) {
    context.fillStyle = colours.none;
    const size = Math.min(this.cw, this.ch) > 16 ? 3 : 2;
    for (let r = r0; r < r1; r += 1) {
      for (let c = c0; c < c1; c += 1) {
        if (!this.cell(r, c)) context.fillRect(x(c) + this.cw / 2 - size / 2, y(r) + this.ch / 2 - size / 2, size, size);
      }
    }
  }

  hatch(context, x, y, seen, colours) {
    const { cw, ch } = this, distance = Math.min(cw, ch) < 8 ? 3 : 6;
    context.lineWidth = 1;
    this.hatched.forEach((cells, light) => {
      context.strokeStyle = colours.hatch[light];
      context.beginPath();
      for (const [r, c] of cells) {
        if (!seen([r, c])) continue;
        const [l, t] = [x(c), y(r)];
        // lines x + y = k, at multiples of the distance so that neighbours' lines meet
        for (let k = Math.ceil((l + t) / distance) * distance; k < l + t + cw + ch; k += distance) {
          const from = Math.max(l, k - t - ch), to = Math.min(l + cw, k - t);
          context.moveTo(from, k - from);
          context.lineTo(to, k - to);
        }
      }
      context.stroke();
    });
  }

  labels(context, colours, { x, y, c0, c1, r0, r1, rows, columns, rowKey, columnKey }) {
    const { left, top, cw, ch, width, height } = this;
    context.fillStyle = colours.card;
    context.fillRect(0, 0, width, top);
    context.fillRect(0, 0, left, height);
    context.font = FONT;
    context.fillStyle = colours.ink;
    context.textBaseline = 'middle';
    context.textAlign = 'right';
    const [everyRow, everyColumn] = [Math.ceil(15 / ch), this.upright ? Math.ceil(15 / cw) : 1];
    context.save();
    context.beginPath();
    context.rect(0, top - 7, left, height - top + 7);
    context.clip();
    for (let r = r0 - r0 % everyRow; r < r1; r += everyRow) if (r >= 0) context.fillText(cut(context, oneLine(shown(rowKey, rows[r])).slice(0, 80), left - 14), left - 7, y(r) + ch / 2);
    context.restore();
    context.save();
    context.beginPath();
    context.rect(left - 7, 0, width - left + 7, top);
    context.clip();
    for (let c = c0 - c0 % everyColumn; c < c1; c += everyColumn) this.columnLabel(context, oneLine(shown(columnKey, columns[c])).slice(0, 80), x(c) + cw / 2);
    context.restore();
    context.font = '11px system-ui, sans-serif';
    context.fillStyle = colours.dim;
    context.textAlign = 'right';
    context.fillText(cut(context, `${keyName(columnKey)} →`, left - 10), left - 7, top - 30);
    context.fillText(cut(context, `${keyName(rowKey)} ↓`, left - 10), left - 7, top - 14);
  }

  columnLabel(context, text, middle) {
    if (!this.upright) {
      context.textAlign = 'center';
      context.fillText(cut(context, text, this.cw - 8), middle, this.top - 14);
      return;
    }
    context.save();
    context.translate(middle, this.top - 6);
    context.rotate(-Math.PI / 2);
    context.textAlign = 'left';
    context.fillText(cut(context, text, this.top - 10), 0, 0);
    context.restore();
  }

  /// Pointer, focus and the cell that is open, with their labels.
  mark() {
    if (!this.data || !this.cw) return;
    const { left, top, cw, ch, width, height } = this, colours = palette();
    const context = surface(this.marks, width, height);
    const outline = (at, colour, line) => {
      const { x, y } = this.rect(at);
      context.save();
      context.beginPath();
      context.rect(left, top, width - left, height - top);
      context.clip();
      context.strokeStyle = colour;
      context.lineWidth = line;
      const grow = Math.min(cw, ch) < 8 ? 2 : 0;
      context.strokeRect(Math.round(x) + 0.5 - grow, Math.round(y) + 0.5 - grow, Math.max(3, cw - 1 + 2 * grow), Math.max(3, ch - 1 + 2 * grow));
      context.restore();
    };
    if (this.selected && this.data.rows[this.selected[0]] !== undefined) outline(this.selected, colours.accent, 3);
    const at = this.hover ?? (this.focused ? this.focus : null);
    if (!at || !this.data.rows.length) return;
    const { x, y } = this.rect(at);
    context.fillStyle = colours.band;
    if (y >= top - ch) context.fillRect(left, Math.max(top, y), width - left, ch);
    if (x >= left - cw) context.fillRect(Math.max(left, x), top, cw, height - top);
    outline(at, colours.card, 5);
    outline(at, colours.ink, 2);
    context.font = BOLD;
    context.textBaseline = 'middle';
    const row = oneLine(shown(this.data.rowKey, this.data.rows[at[0]])).slice(0, 80);
    const column = oneLine(shown(this.data.columnKey, this.data.columns[at[1]])).slice(0, 80);
    context.fillStyle = colours.card;
    context.fillRect(0, y + ch / 2 - 9, left - 3, 18);
    context.fillRect(x + cw / 2 - (this.upright ? 9 : cw / 2), 0, this.upright ? 18 : cw, top - 2);
    context.fillStyle = colours.accent;
    context.textAlign = 'right';
    context.fillText(cut(context, row, left - 10), left - 7, y + ch / 2);
    this.columnLabel(context, column, x + cw / 2);
  }

  rect([r, c]) { return { x: this.left + c * this.cw - this.box.scrollLeft, y: this.top + r * this.ch - this.box.scrollTop, width: this.cw, height: this.ch }; }

  offset(event) { const box = this.box.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; }

  at(event) {
    if (!this.data || !this.cw) return null;
    const [x, y] = this.offset(event);
    if (x < this.left || y < this.top || x >= this.width || y >= this.height) return null;
    const [r, c] = [Math.floor((y - this.top + this.box.scrollTop) / this.ch), Math.floor((x - this.left + this.box.scrollLeft) / this.cw)];
    return r < this.data.rows.length && c < this.data.columns.length ? [r, c] : null;
  }

  point(event) {
    if (event.pointerType !== 'touch') this.hovered(this.at(event));
  }

  hovered(at) {
    if (String(at) === String(this.hover)) return;
    this.hover = at;
    this.mark();
    this.handlers.look(at ? this.cell(...at) ?? null : null, at && this.rect(at), at);
  }

  key(event) {
    if (!this.data?.rows.length || event.altKey || event.metaKey) return;
    const [r, c] = this.focus, page = Math.max(1, Math.floor((this.height - this.top) / this.ch) - 1);
    const to = {
      ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1], PageUp: [r - page, c], PageDown: [r + page, c],
      Home: event.ctrlKey ? [0, 0] : [r, 0], End: event.ctrlKey ? [1e9, 1e9] : [r, 1e9],
    }[event.key];
    if (to) this.move(...to);
    else if (event.key === 'Enter' || event.key === ' ') this.handlers.open(r, c);
    else if (event.key === '+' || event.key === '=') this.zoomBy(1.25);
    else if (event.key === '-') this.zoomBy(0.8);
    else if (event.key === '0') this.zoomBy(0);
    else if (event.key === 'n' || event.key === 'p') this.next(event.key === 'n' ? 1 : -1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /// Goes to the next worse or less bad cell than the current one.
  next(direction) {
    const { rows, columns, scale } = this.data;
    this.ranked ??= null;
    if (this.ranked?.data !== this.data) {
      const list = [];
      for (let r = 0; r < rows.length; r += 1) for (let c = 0; c < columns.length; c += 1) { const cell = this.cell(r, c); const value = cell && scale.value(cell); if (cell && value !== undefined) list.push([value ?? Infinity, r, c]); }
      list.sort((a, b) => b[0] - a[0]);
      this.ranked = { data: this.data, list: list.slice(0, 1000), at: direction > 0 ? -1 : 0 };
    }
    const { list } = this.ranked;
    if (!list.length) return;
    this.ranked.at = (this.ranked.at + direction + list.length) % list.length;
    this.move(list[this.ranked.at][1], list[this.ranked.at][2]);
  }

  move(r, c, quiet) {
    this.focus = [Math.max(0, Math.min(this.data.rows.length - 1, r)), Math.max(0, Math.min(this.data.columns.length - 1, c))];
    this.hover = null;
    const { x, y } = this.rect(this.focus);
    const dx = x < this.left ? x - this.left : Math.max(0, x + this.cw - this.width), dy = y < this.top ? y - this.top : Math.max(0, y + this.ch - this.height);
    if (dx || dy) this.box.scrollBy(dx, dy);
    this.mark();
    this.tell();
    if (!quiet) this.handlers.look(this.cell(...this.focus) ?? null, this.rect(this.focus), this.focus);
  }

  /// What the ARIA grid has: the row and column of the current cell.
  tell() {
    if (!this.data?.rows.length) return;
    const [r, c] = this.focus;
    const row = $('grid-row'), header = $('grid-head'), cell = $('grid-cell');
    row.setAttribute('aria-rowindex', r + 2);
    header.textContent = shown(this.data.rowKey, this.data.rows[r]);
    cell.setAttribute('aria-colindex', c + 2);
    cell.textContent = this.handlers.said(r, c);
  }

  /// The matrix as a table, for screen readers and for copying; as many rows as make `most` cells.
  table(most = 20_000) {
    const { rows, columns, rowKey, columnKey, scale, suspects } = this.data;
    const lines = Math.min(rows.length, Math.max(1, Math.floor(most / columns.length)));
    const head = el('tr', null, el('th', { scope: 'col' }, `${keyName(rowKey)} ↓ ${keyName(columnKey)} →`), columns.map((value) => el('th', { scope: 'col' }, shown(columnKey, value))));
    const body = rows.slice(0, lines).map((value, r) => el('tr', null, el('th', { scope: 'row' }, shown(rowKey, value)), columns.map((_, c) => {
      const cell = this.cell(r, c);
      return el('td', null, cell ? `${scale.text(cell)}${cell[suspects] > 0 ? ' suspect' : ''}` : 'no data');
    })));
    const caption = `${scale.metric.name} by ${keyName(rowKey)} and ${keyName(columnKey)}${lines < rows.length ? `: the first ${lines} of ${rows.length} rows` : ''}`;
    return el('table', { class: 'plain' }, el('caption', null, caption), el('thead', null, head), el('tbody', null, body));
  }
}
