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

const CLASSES = { 0: 'default', 8: 'CS1', 16: 'CS2', 24: 'CS3', 32: 'CS4', 40: 'CS5', 48: 'CS6', 56: 'CS7', 46: 'EF', 44: 'VA', 10: 'AF11', 12: 'AF12', 14: 'AF13', 18: 'AF21', 20: 'AF22', 22: 'AF23', 26: 'AF31', 28: 'AF32', 30: 'AF33', 34: 'AF41', 36: 'AF42', 38: 'AF43' };
export const dscpName = (dscp) => (CLASSES[dscp] ? `${dscp} ${CLASSES[dscp]}` : String(dscp));

const METHODS = { udp: 'STAMP (udp)', llama: 'LLAMA', 'llama-python': 'LLAMA, Python' };

/// A key's value as shown: an empty one is said, not left blank.
export function shown(key, value) {
  if (value === '') return '(none)';
  return key === 'dscp' ? dscpName(value) : key === 'method' ? METHODS[value] ?? value : value;
}

const KEYS = { src_ip: 'source address', dst_ip: 'destination address', dscp: 'class (DSCP)' };
export const keyName = (key) => KEYS[key] ?? key;

export const REASONS = {
  local_drops: 'its own sockets dropped datagrams',
  not_sent: 'it could not keep its schedule',
  stamps_lost: 'transmit stamps never came',
  clock_step: 'its clock stepped',
  tally_dropped: 'counts of a worker were dropped',
};
