// Questions to the server.

import { iso } from './format.js';

const PATIENCE = 20_000; // milliseconds

/// Why there is no answer, and what to do.
export class Refused extends Error {
  constructor(status, error, remedy) {
    super(error);
    this.status = status;
    this.remedy = remedy;
  }
}

/// Questions under way at once, at most: the server answers as many, for everybody together, and lets the others wait.
const AT_ONCE = 2;
let under = 0;
const waiting = [];

async function turn(signal) {
  if (under < AT_ONCE) { under += 1; return; }
  await new Promise((go, stop) => {
    waiting.push(go);
    signal.addEventListener('abort', () => {
      const at = waiting.indexOf(go);
      if (at >= 0) { waiting.splice(at, 1); stop(signal.reason); }
    }, { once: true });
  });
}

function over() {
  const next = waiting.shift();
  if (next) next(); else under -= 1;
}

/// Asks; `params` are [name, value].
export async function ask(path, params, signal) {
  signal.throwIfAborted();
  await turn(signal);
  try {
    return await answer(path, params, signal);
  } finally {
    over();
  }
}

async function answer(path, params, signal) {
  const query = new URLSearchParams(params).toString();
  let response;
  try {
    response = await fetch(`/api/v1/${path}${query && `?${query}`}`, { signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]) });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Refused(0, error.name === 'TimeoutError' ? `no answer within ${PATIENCE / 1000} s` : 'the server does not answer',
      'check that the program runs and that this host reaches it; the page tries again by itself');
  }
  let body;
  try {
    body = await response.json();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Refused(response.status, `status ${response.status} and no JSON`, 'is something else listening on this address, or a proxy between?');
  }
  if (!response.ok) throw new Refused(response.status, body.error ?? `status ${response.status}`, body.remedy ?? '');
  return body;
}

/// Lists of values as objects, by the answer's `fields`.
export const objects = (fields, lists) => lists.map((list) => Object.fromEntries(fields.map((name, i) => [name, list[i]])));

/// The parameters that ask for the matrix's time: each path's newest interval, now or at the instant chosen, or a longer window.
export function windowOf(view, seconds, interval) {
  const params = view.at === null ? [] : [['at', iso(view.at)]];
  if (seconds > interval) params.push(['span', seconds]);
  return params;
}

/// Filters; those of `keys` are replaced by these values.
export const whereOf = (where, keys = {}) => [
  ...where.filter(([key]) => !(key in keys)),
  ...Object.entries(keys),
].map(([key, value]) => ['where', `${key}=${value}`]);
