// Numbers, instants and names as people read them. Times are UTC, as everywhere in the API.

/// Three significant digits, without an exponent.
function digits(value) {
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : size >= 0.001 ? value.toFixed(3) : value === 0 ? '0' : value.toFixed(4);
}

export const count = (value) => (value == null ? '–' : Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, '\u202f'));

/// A delay in milliseconds; `bound` when it is only known to be no more.
export const ms = (value, bound) => (value == null ? '–' : `${bound ? '≤ ' : ''}${digits(value)} ms`);

/// Never 0 % where something was lost, never 100 % where something came back.
export function percent(value) {
  if (value == null) return '–';
  if (value === 0 || value === 100) return `${value} %`;
  if (value < 0.001) return '< 0.001 %';
  if (value > 99.9) return '> 99.9 %';
  return `${value >= 10 ? value.toFixed(1) : value >= 1 ? value.toFixed(2) : value.toPrecision(2)} %`;
}

export const signed = (text, value) => (value > 0 ? `+${text}` : text.replace('-', '−'));

/// Milliseconds since 1970 of RFC 3339 with nanoseconds, rounded up: what had ended by then has ended by this instant.
export function instant(text) {
  const at = Date.parse(text);
  const fraction = /\.\d{3}(\d+)/.exec(text);
  return fraction && Number(fraction[1]) > 0 ? at + 1 : at;
}

export const iso = (at) => new Date(at).toISOString();
export const clock = (at) => iso(at).slice(11, 19);
export const day = (at) => iso(at).slice(0, 10);

/// A duration in the largest unit that is whole.
export function span(seconds) {
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]]) {
    if (seconds >= size && seconds % size === 0) return `${seconds / size} ${unit}`;
  }
  return `${Number(seconds.toFixed(2))} s`;
}

/// `23:46:50 – 23:47:00 UTC`, with the day where it is not today.
export function between(from, to) {
  const today = day(Date.now());
  const name = (at) => (day(at) === today ? clock(at) : `${day(at)} ${clock(at)}`);
  return `${name(from)} – ${day(from) === day(to) ? clock(to) : name(to)} UTC`;
}

const CLASSES = { 8: 'CS1', 16: 'CS2', 24: 'CS3', 32: 'CS4', 40: 'CS5', 48: 'CS6', 56: 'CS7', 46: 'EF', 44: 'VA', 10: 'AF11', 12: 'AF12', 14: 'AF13', 18: 'AF21', 20: 'AF22', 22: 'AF23', 26: 'AF31', 28: 'AF32', 30: 'AF33', 34: 'AF41', 36: 'AF42', 38: 'AF43' };
/// A class as `llama ping` says it: `EF (46)`, `0`, `3`.
export const dscpName = (dscp) => (CLASSES[dscp] ? `${CLASSES[dscp]} (${dscp})` : String(dscp));
/// The same where nothing else says that it is a class.
export const className = (dscp) => (CLASSES[dscp] ? dscpName(dscp) : `class ${dscp}`);

const METHODS = { udp: 'STAMP (udp)', llama: 'LLAMA', 'llama-python': 'LLAMA, Python', 'tcp-syn': 'TCP SYN', icmp: 'ICMP echo' };

/// A key's value as shown: an empty one is said, not left blank.
export function shown(key, value) {
  if (value === '') return '(none)';
  return key === 'dscp' ? dscpName(value) : key === 'size' ? `${value} B` : key === 'method' ? METHODS[value] ?? value : value;
}

const KEYS = { src_ip: 'source address', dst_ip: 'destination address', dscp: 'class (DSCP)', size: 'size of a probe' };
export const keyName = (key) => KEYS[key] ?? key;

export const REASONS = {
  local_drops: 'its own sockets dropped datagrams',
  not_sent: 'it could not keep its schedule',
  stamps_lost: 'transmit stamps never came',
  clock_step: 'its clock stepped',
  tally_dropped: 'counts of a worker were dropped',
};

/// What came of the probes that are counted as lost, one text per kind, what is not zero: `12 refused`, `3 too big (MTU 1400)`.
export function kindsOf(f) {
  const told = [
    [f.refused, 'refused'], [f.prohibited, 'prohibited'], [f.time_exceeded, 'hop limit reached'],
    [f.too_big, `too big${f.mtu ? ` (MTU ${f.mtu})` : ''}`], [f.corrupted, 'corrupted'], [f.unreachable, 'unreachable'],
  ].filter(([n]) => n > 0);
  const silent = f.lost - told.reduce((sum, [n]) => sum + n, 0), unknown = silent - f.lost_forward - f.lost_reverse;
  const where = unknown === silent ? [] : [[f.lost_forward, 'there'], [f.lost_reverse, 'back'], [unknown, 'unknown']].filter(([n]) => n > 0);
  return [...told.map(([n, what]) => `${count(n)} ${what}`),
    ...(silent > 0 ? [`${count(silent)} no answer${where.length ? `: ${where.map(([n, way]) => `${count(n)} ${way}`).join(', ')}` : ''}`] : [])];
}

/// The same in short, without what had no answer: `refused, too big (MTU 1400)`.
export const kindNames = (f) => kindsOf({ ...f, lost: 0 }).map((text) => text.replace(/^\S+ /, '')).join(', ');

/// What became of the class on its way, a text per way: `EF (46) arrived as 0 (forward), 120 of 480`. `asked` is null where
/// several classes are joined.
export function classesOf(f, asked) {
  const name = asked == null ? 'class' : dscpName(asked), as = (seen) => (seen == null ? 'another class' : dscpName(seen));
  const replied = f.sent - f.lost, errors = (f.refused ?? 0) + (f.prohibited ?? 0) + (f.time_exceeded ?? 0) + (f.too_big ?? 0) + (f.unreachable ?? 0);
  const line = (changed, verb, seen, way, told) => (changed > 0 ? [`${name} ${verb} as ${as(seen)} (${way}), ${count(changed)} of ${count(Math.max(changed, told))}`] : []);
  return [...line(f.dscp_changed_forward, 'arrived', f.dscp_seen_forward, 'forward', (f.class_reports ?? 0) + errors),
    ...line(f.dscp_changed_reverse, 'came back', f.dscp_seen_reverse, 'reverse', replied),
    ...line(f.dscp_changed_either, 'came back', f.dscp_seen_either, 'way unknown', replied)];
}

/// Counts by way, those that are not zero: `12 there · 3 back`.
export const ways = (there, back) => [[there, 'there'], [back, 'back']].filter(([n]) => n > 0).map(([n, way]) => `${count(n)} ${way}`).join(' · ');
