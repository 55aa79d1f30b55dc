// Metrics and their colours. Every scale is one of steps, so that a colour can be read back as a number; lightness alone
// tells the steps apart, for whoever sees colours differently.

import { count, ms, percent, signed } from './format.js';

export const METRICS = {
  loss: { name: 'Loss', field: 'loss_percent', kind: 'loss', order: 'loss' },
  rtt_mean: { name: 'RTT mean', field: 'rtt_mean_ms', kind: 'delay', order: 'rtt_mean' },
  rtt_p50: { name: 'RTT p50', field: 'rtt_p50_ms', kind: 'delay', order: 'rtt_p50', percentile: true },
  rtt_p99: { name: 'RTT p99', field: 'rtt_p99_ms', kind: 'delay', order: 'rtt_p99', percentile: true },
  rtt_max: { name: 'RTT max', field: 'rtt_max_ms', kind: 'delay', order: 'rtt_p99' },
  ipdv: { name: 'IPDV mean', field: 'ipdv_mean_ms', kind: 'delay', order: 'ipdv' },
  dscp: { name: 'Class changed', field: 'dscp_changed_percent', kind: 'share', order: 'dscp_changed', counts: 'dscp_changed' },
};

const COLOURS = {
  light: {
    ink: '#18212b', dim: '#566270', line: '#d7dde4', card: '#ffffff', accent: '#1c5fb8', hatch: ['rgba(24,33,43,.6)', 'rgba(255,255,255,.62)'], none: '#c3ccd5', silent: '#8a94a0', band: 'rgba(28,95,184,.14)', band2: 'rgba(28,95,184,.3)',
    loss: ['#e2ebf0', '#fbe3a1', '#f8b64c', '#e8702a', '#b3234d', '#45095f'],
    value: ['#eef3da', '#c3e2bf', '#84cbb7', '#45a5b4', '#2b78a6', '#274f90', '#1a2861'],
    change: ['#14508f', '#5b97cf', '#b9d6ec', '#eceff1', '#fad3a8', '#ef9340', '#b04f06'],
  },
  dark: {
    ink: '#dfe6ee', dim: '#909dac', line: '#2b3641', card: '#151c24', accent: '#7db2ff', hatch: ['rgba(10,15,20,.6)', 'rgba(235,241,247,.7)'], none: '#3a4652', silent: '#6b7683', band: 'rgba(125,178,255,.16)', band2: 'rgba(125,178,255,.34)',
    loss: ['#2a3946', '#74308a', '#b43368', '#e65a3e', '#fba238', '#fcf6b0'],
    value: ['#2b3560', '#33578c', '#2a788e', '#21998a', '#4dbd6b', '#a3da37', '#fde725'],
    change: ['#8cc6ff', '#4a8fd2', '#2b537b', '#232d37', '#704a25', '#c4761f', '#ffb866'],
  },
};

export const isDark = () => {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
};
export const palette = () => COLOURS[isDark() ? 'dark' : 'light'];

const parts = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

/// So many colours between those of a list, evenly spread.
const spread = (list, n) => Array.from({ length: n }, (_, i) => {
  const at = n === 1 ? 0 : i * (list.length - 1) / (n - 1), low = Math.min(list.length - 2, Math.floor(at));
  const [a, b] = [parts(list[low]), parts(list[low + 1])];
  return `#${a.map((v, j) => Math.round(v + (b[j] - v) * (at - low)).toString(16).padStart(2, '0')).join('')}`;
});

/// The index of the step that a value is in.
export const stepAt = (thresholds, value) => { let i = 0; while (i < thresholds.length && value >= thresholds[i]) i += 1; return i; };

const TINY = Number.MIN_VALUE;
const LOSS = [TINY, 0.1, 1, 5, 100];

/// Colour of a loss.
export const lossColour = (value, colours = palette()) => colours.loss[stepAt(LOSS, value)];

/// Round thresholds from low to high: 1, 2, 5, 10 …, closer where the values are. At least to three times the lowest, so
/// that values which hardly differ do not get the colours of best and worst.
function thresholds(low, largest) {
  if (!(largest >= low)) return [];
  const found = [], high = Math.max(largest, 3 * low);
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const factor of high / low > 10 ? [1, 2, 5] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8]) found.push(Number((factor * 10 ** power).toPrecision(3)));
  }
  const inside = found.filter((value) => value > low && value < high);
  const every = Math.ceil(inside.length / 9);
  return inside.filter((_, i) => (inside.length - 1 - i) % every === 0);
}

/// A text for a threshold of delays, short.
const short = (value) => (value >= 1000 ? `${value / 1000} s` : value < 0.1 ? `${Number((value * 1000).toPrecision(4))} µs` : `${value} ms`);

/// The smallest value for the legend: rounded down, to as many digits as tell it from the first threshold.
function below(low, first) {
  for (let figures = 2; figures < 6; figures += 1) {
    const unit = 10 ** (Math.floor(Math.log10(low)) + 1 - figures), value = Number((Math.floor(low / unit) * unit).toPrecision(figures));
    if (value > 0 && value < first && short(value) !== short(first)) return value;
  }
  return low;
}

/// How cells are painted: `value(cell, before)` is a number, null where nothing was measured, or undefined where there is
/// nothing to compare with, and `none` says so; `colour(value)`; `text(cell, before)`; `legend` as [colour, label].
export function scale(metricName, against, fields, cells, beforeOf) {
  const metric = METRICS[metricName], colours = palette(), at = fields.indexOf(metric.field), bounds = fields.indexOf('percentiles');
  const plain = (cell) => cell[at];
  const number = metric.kind === 'delay' ? ms : percent, counts = fields.indexOf(metric.counts), none = metric.kind === 'share' ? 'no answer' : 'no reply';
  const counted = (cell) => (counts >= 0 && cell[counts] > 0 ? ` (${count(cell[counts])})` : '');
  const bound = (cell) => metric.percentile && cell[bounds] === 'bound';
  if (!against) {
    const text = (cell) => (plain(cell) == null ? none : `${number(plain(cell), bound(cell))}${counted(cell)}`);
    if (metric.kind !== 'delay') {
      const legend = ['0 %', '> 0 %', '≥ 0.1 %', '≥ 1 %', '≥ 5 %', '100 %'].map((label, i) => [colours.loss[i], label]);
      return { metric, none, value: plain, text, colour: (value) => colours.loss[stepAt(LOSS, value)], legend };
    }
    let [low, high] = [Infinity, 0];
    for (const cell of cells) if (cell[at] > 0) { low = Math.min(low, cell[at]); high = Math.max(high, cell[at]); }
    const steps = thresholds(low, high), ramp = spread(colours.value, steps.length + 1);
    const legend = ramp.map((colour, i) => [colour, i === 0 ? (steps.length ? `≥ ${short(below(low, steps[0]))}` : 'all alike') : `≥ ${short(steps[i - 1])}`]);
    return { metric, none, value: plain, text, colour: (value) => ramp[stepAt(steps, value)], legend };
  }
  const relative = metric.kind === 'delay', points = relative ? 'delay' : 'loss';
  const steps = { loss: [-5, -1, -0.1, 0.1, 1, 5], delay: [-50, -20, -5, 5, 20, 50] }[points];
  const unit = { loss: ' points', delay: ' %' }[points];
  const value = (cell) => {
    const then = beforeOf(cell);
    if (!then) return undefined;
    if (plain(cell) == null || then[at] == null) return plain(cell) == null && then[at] == null ? undefined : plain(cell) == null ? null : undefined;
    return relative ? (then[at] > 0 ? 100 * (plain(cell) / then[at] - 1) : undefined) : plain(cell) - then[at];
  };
  const text = (cell) => {
    const change = value(cell);
    if (change === null) return none;
    if (change === undefined) return 'no data then';
    const size = Math.abs(change);
    return signed(`${change < 0 ? '-' : ''}${size >= 10 ? size.toFixed(0) : size >= 1 || relative ? size.toFixed(1) : size === 0 ? '0' : size.toPrecision(2)}${unit}`, change);
  };
  const labels = { loss: ['≤ −5', '≤ −1', '≤ −0.1', '± 0.1', '≥ +0.1', '≥ +1', '≥ +5 points'], delay: ['≤ −50', '≤ −20', '≤ −5', '± 5', '≥ +5', '≥ +20', '≥ +50 %'] }[points];
  return { metric, none, value, text, colour: (change) => colours.change[stepAt(steps, change)], legend: labels.map((label, i) => [colours.change[i], label]) };
}

export const LIGHT = '#ffffff';

/// Black or white, whichever reads better on a colour.
export function inkOn(colour) {
  const [r, g, b] = parts(colour);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? '#111820' : LIGHT;
}
