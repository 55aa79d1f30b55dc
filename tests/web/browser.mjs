// A browser for the checks: what it may do, what is held against every page, and what a failure says.

import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';

const root = new URL('../../', import.meta.url);
const { chromium } = createRequire(new URL('target/web/', root))('playwright-core');
const SHOTS = new URL('target/web/screenshots/', root).pathname;
const PATIENCE = 20_000; // milliseconds

export class Failed extends Error {}

/// Waits until `look` gives something other than false, null or undefined.
export async function until(what, look) {
  const deadline = Date.now() + PATIENCE;
  let seen;
  for (;;) {
    try {
      seen = await look();
      if (seen) return seen;
    } catch (error) {
      if (error instanceof Failed) throw error;
      seen = error.message;
    }
    if (Date.now() > deadline) throw new Failed(`waited ${PATIENCE / 1000} s for ${what}; last seen: ${JSON.stringify(seen)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export function same(what, seen, expected) {
  if (JSON.stringify(seen) !== JSON.stringify(expected)) throw new Failed(`${what}: seen ${JSON.stringify(seen)}, expected ${JSON.stringify(expected)}`);
}
export function holds(what, condition, seen) {
  if (!condition) throw new Failed(`${what}: seen ${JSON.stringify(seen)}`);
}

/// What a check can do with a page.
class Visit {
  constructor(page, origin) {
    Object.assign(this, { page, origin, complaints: [], elsewhere: [], allowed: [] });
  }

  /// Console errors of this text are what the check provokes.
  expect(pattern) { this.allowed.push(pattern); }
  go(fragment = '') { return this.page.goto(this.origin + fragment); }
  text(selector) { return this.page.locator(selector).first().innerText(); }
  /// Waits until an element's text holds this.
  sees(selector, text) {
    return until(`${selector} to show ${JSON.stringify(text)}`, async () => {
      const seen = await this.text(selector);
      if (seen.includes(text)) return true;
      throw new Error(seen.slice(0, 300));
    });
  }
  hash() { return new URLSearchParams(new URL(this.page.url()).hash.slice(1)); }
  /// Waits until the matrix and all beside it are there.
  async ready() {
    await until('the matrix', async () => { if (await this.page.locator('#state').isHidden()) return true; throw new Error(await this.text('#state')); });
    await this.idle();
  }
  /// Waits until nothing is being asked.
  idle() { return until('no question under way', () => this.page.evaluate(() => !document.body.classList.contains('busy'))); }
  key(...keys) { return keys.reduce((before, key) => before.then(() => this.page.keyboard.press(key)), Promise.resolve()); }
  /// The matrix as its table says it: {caption, columns, rows: {name: [cells]}}.
  async table() {
    if (await this.page.locator('#as-table').getAttribute('aria-pressed') === 'false') await this.page.locator('#as-table').click();
    const table = await this.page.evaluate(() => {
      const one = document.querySelector('#table table');
      const text = (list) => [...list].map((node) => node.textContent);
      return one && { caption: one.caption.textContent, columns: text(one.tHead.rows[0].cells).slice(1), rows: Object.fromEntries([...one.tBodies[0].rows].map((row) => [row.cells[0].textContent, text(row.cells).slice(1)])) };
    });
    await this.page.locator('#as-table').click();
    return table;
  }
}

/// Runs the checks of a group: each has a page of its own and fails by itself. `checks` are [name, {server, …}, work].
export async function run(checks, only) {
  mkdirSync(SHOTS, { recursive: true });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  let failures = 0;
  try {
    for (const [name, { serve, width = 1280, height = 860, ...context }, work] of checks.filter(([name]) => !only || name === only)) {
      const begin = Date.now(), server = await serve();
      const own = await browser.newContext({ viewport: { width, height }, ...context });
      const page = await own.newPage(), visit = new Visit(page, server.url);
      page.setDefaultTimeout(PATIENCE);
      page.on('console', (message) => message.type() === 'error' && visit.complaints.push(`console: ${message.text()}`));
      page.on('pageerror', (error) => visit.complaints.push(`page: ${error.stack}`));
      await own.route((url) => !url.href.startsWith(server.url), (route) => { visit.elsewhere.push(route.request().url()); return route.abort(); });
      try {
        const said = await work(visit, server);
        const complaints = visit.complaints.filter((text) => !visit.allowed.some((pattern) => pattern.test(text)));
        same('errors in the console', complaints, []);
        same('requests to other hosts', visit.elsewhere, []);
        console.log(`ok      ${name} (${Date.now() - begin} ms)${said ? `: ${said}` : ''}`);
      } catch (error) {
        failures += 1;
        const shot = `${SHOTS}${name.replace(/\W+/g, '-')}.png`;
        await page.screenshot({ path: shot }).catch(() => {});
        console.log(`FAILED  ${name}: ${error instanceof Failed ? error.message : error.stack}\n        at ${page.url()}\n        console: ${JSON.stringify(visit.complaints)}\n        screenshot: ${shot}`);
      } finally {
        await own.close();
        await server.close();
      }
    }
  } finally {
    await browser.close();
  }
  return failures;
}
