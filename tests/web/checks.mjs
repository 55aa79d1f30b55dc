// Checks of the page in Chromium: node checks.mjs GROUP [URL of the program, for the group `demo`] [name of one check].
// Those of `demo` run against the real program, the others against the made-up fleet of fleet.mjs.

import { NASTY, serve } from './fleet.mjs';
import { Failed, holds, run, same, until } from './browser.mjs';

const [group, url] = process.argv.slice(2);
const of = (kind, more = {}) => ({ serve: () => serve(kind), ...more });
const real = (more = {}) => ({ serve: async () => ({ url, close() {} }), ...more });

/// Red, green, blue and opacity of the matrix in a cell, beside its text.
const pixel = (page, row, column, rows, columns) => page.evaluate(([r, c, nr, nc]) => {
  const canvas = document.getElementById('matrix-cells'), space = document.getElementById('matrix-space'), box = document.getElementById('matrix');
  const ratio = canvas.width / box.clientWidth;
  // the labels take what the cells leave: find where the cells begin from the grid's own size
  const matrix = { width: space.clientWidth, height: space.clientHeight };
  const left = Number(box.dataset.left), top = Number(box.dataset.top);
  const x = left + (c + 0.15) * (matrix.width - left) / nc, y = top + (r + 0.2) * (matrix.height - top) / nr;
  return [...canvas.getContext('2d').getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data];
}, [row, column, rows, columns]);

/// Where a cell is on the screen.
async function spot(v, row, column, rows, columns) {
  const box = await v.page.locator('#matrix').boundingBox();
  const [left, top, width, height] = await v.page.evaluate(() => { const m = document.getElementById('matrix'), s = document.getElementById('matrix-space'); return [Number(m.dataset.left), Number(m.dataset.top), s.clientWidth, s.clientHeight]; });
  return [box.x + left + (column + 0.5) * (width - left) / columns, box.y + top + (row + 0.5) * (height - top) / rows];
}

/// Clicks the timeline at a part of its width (0 to 1).
async function timeline(v, part, dy = 30) {
  const box = await v.page.locator('#timeline').boundingBox();
  return [box.x + 46 + part * (box.width - 56), box.y + dy];
}

const groups = {
  view: [
    ['the matrix loads', of('small'), async (v) => {
      await v.go();
      await v.ready();
      const table = await v.table();
      same('columns', table.columns, ['ams', 'fra', 'lon', 'nyc', 'par', 'sgp']);
      holds('ams to ams has no data', table.rows.ams[0] === 'no data', table.rows.ams);
      holds('sgp has loss', /%/.test(table.rows.ams[5]) && table.rows.ams[5] !== '0 %', table.rows.ams);
      holds('nyc is suspect', table.rows.nyc.every((text) => text.includes('suspect')), table.rows.nyc);
      await v.sees('#source', 'history in /var/lib/llama');
      await v.sees('#legend', '≥ 0.1 %');
      await v.sees('#banner', '10.0.7.1');
    }],
    ['no data, no loss and loss look different', of('small'), async (v) => {
      await v.go();
      await v.ready();
      const at = async (r, c) => (await pixel(v.page, r, c, 6, 6)).join();
      const [none, zero, lossy] = [await at(0, 0), await at(0, 1), await at(0, 5)];
      holds('three colours', new Set([none, zero, lossy]).size === 3, { none, zero, lossy });
      holds('no data has no colour at all', none.endsWith(',0') && zero.endsWith(',255'), { none, zero });
    }],
    ['groups change', of('small'), async (v) => {
      await v.go();
      await v.ready();
      await v.page.selectOption('#rows', 'src_rack');
      await v.page.selectOption('#columns', 'group');
      await until('racks as rows', async () => (await v.table()).rows.nyc2);
      same('in the URL', [v.hash().get('rows'), v.hash().get('columns')], ['src_rack', 'group']);
      await v.page.click('#swap');
      await until('racks as columns', async () => (await v.table()).columns.includes('nyc2'));
    }],
    ['metrics change, bounds are said', of('small'), async (v) => {
      await v.go('#rows=src_region&columns=method');
      await v.ready();
      await v.page.selectOption('#metric', 'rtt_p99');
      const table = await until('delays', async () => { const t = await v.table(); return /ms$/.test(t.rows.fra.at(-1)) && t; });
      holds('methods whose percentiles are bounds say so', Object.values(table.rows).some((cells) => cells.some((text) => text.startsWith('≤ '))), table);
      await v.page.selectOption('#against', '86400');
      await v.sees('#matrix-title', 'RTT p99 against yesterday');
      await until('changes', async () => (await v.table()).rows.fra.some((text) => /^[+−]?[\d.]+ %/.test(text)));
      await v.sees('#legend', '≥ +50 %');
    }],
    ['filters narrow and can be taken away', of('small'), async (v) => {
      await v.go();
      await v.ready();
      await v.page.selectOption('#by-dscp', '=46');
      await v.page.selectOption('#by-key', 'src_region');
      await v.page.selectOption('#by-value', '=nyc');
      await until('one row', async () => Object.keys((await v.table()).rows).join() === 'nyc');
      same('in the URL', v.hash().getAll('where'), ['dscp=46', 'src_region=nyc']);
      await v.page.locator('#chips button', { hasText: 'src_region' }).click();
      await until('all rows', async () => Object.keys((await v.table()).rows).length === 6);
    }],
    ['numbers beside the pointer', of('small'), async (v) => {
      await v.go();
      await v.ready();
      const [x, y] = await spot(v, 3, 1, 6, 6);
      await v.page.mouse.move(x, y);
      await v.sees('#tip', 'nyc → fra');
      await v.sees('#tip', 'suspect');
      await v.page.mouse.move(...await spot(v, 0, 0, 6, 6));
      await v.sees('#tip', 'no data');
    }],
    ['classes are a share and a count, and stand side by side', of('small'), async (v) => {
      await v.go('#rows=dst_rack&columns=dscp&metric=dscp');
      await v.ready();
      const table = await v.table();
      same('classes by name', table.columns, ['0', 'EF (46)']);
      const [plain, ef] = table.rows.lon2;
      holds('the share and the number of one class only', plain.startsWith('0 %') && /^25\.\d % \(1.080\)/.test(ef), table.rows.lon2);
      await v.sees('#panel', 'EF (46) arrived as 0 (forward)');
      await v.key('g');
      // from one cell to the next worst, wherever a live update has put it; the first ones are those that nothing came back from
      await until('a cell of EF', async () => { await v.key('n'); return (await v.text('#tip')).includes('EF (46) arrived as 0 (forward)'); });
      await v.sees('#tip', 'congestion marks (ECN)');
    }],
    ['sizes side by side, and as a filter', of('small'), async (v) => {
      await v.go('#rows=src_rack&columns=size');
      await v.ready();
      same('sizes', (await v.table()).columns, ['(none)', '64 B', '1400 B']);
      await v.page.selectOption('#by-size', '=1400');
      await until('one size', async () => (await v.table()).columns.join() === '1400 B');
      same('in the URL', v.hash().getAll('where'), ['size=1400']);
      same('what is too big', (await v.table()).rows.lon1, ['50.0 %']);
      await v.sees('#panel', 'too big (MTU 1280)');
    }],
    ['no threshold twice in the legend', of('small'), async (v) => {
      for (const metric of ['rtt_mean', 'rtt_p50', 'rtt_p99', 'rtt_max', 'ipdv']) {
        for (const where of ['', '&where=dst_region%3Dlon', '&where=src_rack%3Dfra1&where=dst_rack%3Dfra2']) {
          await v.go(`#rows=src_rack&columns=dst_rack&metric=${metric}${where}`);
          await v.ready();
          const steps = await v.page.locator('#legend .steps span').allTextContents();
          same(`${metric} ${where}`, new Set(steps.map((text) => text.replace(/^[<≥] /, ''))).size, steps.length);
        }
      }
    }],
    ['an instant is each path\'s newest interval', of('small'), async (v) => {
      await v.go();
      await v.ready();
      holds('a span says its length', /15 s$/.test(await v.text('#window')), await v.text('#window'));
      await v.page.selectOption('#span', '10');
      await until('an instant', async () => (await v.text('#window')).endsWith('UTC · newest interval of each path'));
      await v.page.mouse.move(...await spot(v, 3, 1, 6, 6));
      await v.sees('#tip', 'last heard of at');
      await v.page.mouse.move(...await spot(v, 3, 2, 6, 6));
      await until('the others are not behind', async () => { const text = await v.text('#tip'); return text.includes('nyc →') && !text.includes('last heard'); });
    }],
    ['dark and light', of('small', { colorScheme: 'dark' }), async (v) => {
      await v.go();
      await v.ready();
      const back = () => v.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const zero = () => pixel(v.page, 0, 1, 6, 6);
      same('dark by the system', [await back(), (await zero())[0] < 90], ['rgb(14, 19, 25)', true]);
      await v.page.selectOption('#theme', 'light');
      await until('light', async () => await back() === 'rgb(238, 241, 244)' && (await zero())[0] > 180);
      await v.page.reload();
      await v.ready();
      same('light is kept', await back(), 'rgb(238, 241, 244)');
      same('and is not in the URL', v.page.url().includes('theme'), false);
    }],
    ['nothing is wider than a phone', of('small', { width: 390, height: 800 }), async (v) => {
      await v.go();
      await v.ready();
      const [page, screen] = await v.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      holds('the page fits', page <= screen, { page, screen });
    }],
  ],
  time: [
    ['a click on the timeline picks an instant', of('small'), async (v) => {
      await v.go();
      await v.ready();
      const before = await v.text('#window');
      await v.page.mouse.click(...await timeline(v, 0.5));
      await until('an instant in the URL', () => v.hash().get('at'));
      await until('another window', async () => await v.text('#window') !== before);
      same('live is off', await v.page.getAttribute('#live', 'aria-pressed'), 'false');
      await until('no loss half an hour ago', async () => (await v.table()).rows.ams[5] === '0 %');
    }],
    ['dragging scrubs, and is one step back', of('small'), async (v) => {
      await v.go();
      await v.ready();
      await v.page.mouse.move(...await timeline(v, 0.3));
      await v.page.mouse.down();
      for (const part of [0.4, 0.5, 0.6]) await v.page.mouse.move(...await timeline(v, part));
      const during = v.hash().get('at');
      await v.page.mouse.up();
      holds('the URL follows the drag', during !== null, during);
      await v.page.goBack();
      await until('live again', () => v.hash().get('at') === null);
    }],
    ['a span is brushed', of('small'), async (v) => {
      await v.go();
      await v.ready();
      await v.page.mouse.move(...await timeline(v, 0.25, 84));
      await v.page.mouse.down();
      await v.page.mouse.move(...await timeline(v, 0.5, 84), { steps: 4 });
      await v.page.mouse.up();
      const seconds = Number(await until('a span in the URL', () => v.hash().get('span')));
      holds('a quarter of an hour', seconds > 850 && seconds < 960, seconds);
    }],
    ['live: a new interval is shown by itself', of('small'), async (v, fleet) => {
      await v.go();
      await v.ready();
      await v.sees('#connection', 'newest');
      const before = await v.text('#window');
      fleet.pass(6);
      await until('a newer window', async () => await v.text('#window') > before);
      await v.page.mouse.click(...await timeline(v, 0.5));
      await until('an instant', () => v.hash().get('at'));
      await v.idle();
      const [still, newest] = [await v.text('#window'), await v.text('#newest')];
      holds('another window', still < before, still);
      fleet.pass(6);
      await until('word of a newer interval', async () => await v.text('#newest') > newest);
      await v.idle();
      same('a fixed instant stays', await v.text('#window'), still);
      await v.page.click('#live');
      await until('live again', () => v.hash().get('at') === null);
    }],
    ['a lost connection is said, and comes back', of('small'), async (v, fleet) => {
      v.expect(/ERR_|Failed to load/);
      await v.go();
      await v.ready();
      const { port } = new URL(fleet.url);
      await v.sees('#connection', 'connected');
      await fleet.close();
      await v.sees('#connection', 'connection lost');
      const again = await serve('small', Number(port));
      try {
        await v.sees('#connection', 'newest');
      } finally {
        await again.close();
      }
      await v.sees('#connection', 'connection lost');
      const begun = await serve('empty', Number(port)); // another program, whose history is empty
      try {
        await v.sees('#connection', 'connected');
        await v.sees('#source', '0 paths');
      } finally {
        await begun.close();
      }
    }],
  ],
  drill: [
    ['from a cell to a flow, and up again', of('small'), async (v) => {
      await v.go('#rows=src_region&columns=dst_region');
      await v.ready();
      await v.page.mouse.click(...await spot(v, 2, 0, 6, 6));
      await v.sees('#panel-title', 'lon → ams');
      await v.sees('#panel', 'Round trips of this window');
      same('charts', await v.page.locator('#panel canvas').count(), 2);
      await v.page.locator('[aria-label=Paths] a').first().click();
      await v.sees('#panel', 'Flows');
      await v.sees('#panel .facts', 'flows with loss');
      const path = v.hash().get('path');
      holds('a path in the URL', /^[0-9a-f]{16}$/.test(path), path);
      await v.page.locator('#panel .list a').first().click();
      await v.sees('#panel-title', ':8100');
      await v.sees('#panel', 'Over time');
      same('charts of a flow', await v.page.locator('#panel canvas').count(), 2);
      await v.key('Escape');
      await until('the path', () => v.hash().get('source') === null && v.hash().get('path') === path);
      await v.key('Escape', 'Escape');
      await until('the fleet', () => v.hash().get('row') === null);
      await v.sees('#panel', 'Paths by loss');
    }],
    ['the kind of a loss is said in words', of('small'), async (v) => {
      await v.go('#rows=src_rack&columns=dst_rack&row=fra2&column=sgp2');
      await v.ready();
      for (const text of ['refused', 'prohibited', 'SYN-ACK', 'RST', 'class came back as CS1 (8) (way unknown)']) await v.sees('#panel .facts', text);
      for (const text of ['too big', 'corrupted', 'hop limit', 'unreachable', 'ECN']) holds(`nothing of ${text}`, !(await v.text('#panel')).includes(text));
      await v.sees('#panel', 'Classes and sizes');
      await v.sees('#panel', 'EF (46) came back as CS1 (8)');
      await v.go('#rows=src_rack&columns=dst_rack&row=lon1&column=nyc1');
      await v.sees('#panel .facts', 'too big (MTU 1280)');
      await v.sees('#panel', 'EF (46) · 1400 B');
      await v.page.locator('#panel .list a', { hasText: 'EF (46) · 64 B' }).click();
      await until('filters', () => v.hash().getAll('where').join() === 'dscp=46,size=64');
      await v.go('#rows=src_rack&columns=dst_rack&row=lon1&column=lon2&tab=flows');
      await v.page.locator('#panel .list a', { hasText: '→' }).last().click();
      await v.sees('#panel', 'class changed: 30 there');
    }],
    ['a shared URL restores the view', of('small'), async (v) => {
      await v.go('#rows=src_rack&columns=dst_region&metric=rtt_p50&where=dscp%3D46&range=900&tab=flows');
      await v.ready();
      await v.page.mouse.click(...await timeline(v, 0.4));
      await until('an instant', () => v.hash().get('at'));
      await v.page.mouse.click(...await spot(v, 0, 1, 10, 6));
      await v.sees('#panel-title', 'ams1 → fra');
      await v.page.locator('[aria-label=Paths] a').first().click();
      await until('a path', () => v.hash().get('path'));
      await v.sees('#panel', 'Flows');
      const shared = v.page.url(), state = async () => ({ title: await v.text('#panel-title'), facts: await v.text('#panel .facts'), window: await v.text('#window'), matrix: await v.table(), selects: await v.page.evaluate(() => ['rows', 'columns', 'metric', 'by-dscp', 'sort'].map((id) => document.getElementById(id).value)) });
      const before = await state();
      await v.page.goto('about:blank');
      await v.page.goto(shared);
      await v.ready();
      await v.sees('#panel', 'Flows');
      same('the view', await state(), before);
      await v.page.goBack();
    }],
    ['back and forward', of('small'), async (v) => {
      await v.go();
      await v.ready();
      await v.page.selectOption('#metric', 'ipdv');
      await v.sees('#matrix-title', 'IPDV');
      await v.page.selectOption('#sort', 'worst');
      await v.page.goBack();
      await v.page.goBack();
      await v.sees('#matrix-title', 'Loss');
      await v.page.goForward();
      await v.sees('#matrix-title', 'IPDV');
      same('order', await v.page.inputValue('#sort'), 'name');
    }],
    ['the worst lists lead on, the probers are shown', of('small'), async (v) => {
      await v.go();
      await v.ready();
      await v.page.click('#tab-flows');
      await v.page.locator('#panel .list a').first().click();
      await v.sees('#panel', 'Over time');
      await v.page.locator('#banner a').click();
      await v.sees('#panel', 'Probers in this window');
      await v.sees('#panel', 'its own sockets dropped datagrams');
      await v.sees('#panel', 'This program is degraded');
    }],
    ['all of it by keyboard', of('small'), async (v) => {
      await v.go('#rows=src_region&columns=dst_region');
      await v.ready();
      await v.key('g');
      const cell = () => v.page.evaluate(() => document.getElementById('grid-cell').textContent);
      await until('the first cell', async () => (await cell()).startsWith('ams to ams: no data'));
      await v.key('ArrowRight');
      await until('the next cell', async () => (await cell()).startsWith('ams to fra: Loss 0 %'));
      await v.sees('#tip', 'ams → fra');
      await v.key('n');
      const worst = await until('the worst cell', async () => { const text = await cell(); return text.includes('to sgp') && text; });
      await v.key('Enter');
      await until('its panel with the focus', () => v.page.evaluate(() => document.activeElement.id === 'panel-title' && document.activeElement.textContent));
      holds('of the same cell', worst.startsWith((await v.text('#panel-title')).replace(' → ', ' to ')), worst);
      await until('said to a screen reader', async () => /loss/.test(await v.text('#announce')));
      const tabTo = async (what, test) => {
        for (let i = 0; i < 40; i += 1) { await v.key('Tab'); if (await v.page.evaluate(test)) return; }
        throw new Failed(`40 times Tab did not reach ${what}: at ${await v.page.evaluate(() => document.activeElement.outerHTML.slice(0, 200))}`);
      };
      await tabTo('a path', () => document.activeElement.matches('[aria-label=Paths] a'));
      await v.key('Enter');
      await until('a path', () => v.hash().get('path'));
      await v.sees('#panel', 'Flows');
      await v.key('Escape', 'Escape');
      await until('the top', () => v.hash().get('row') === null);
      await v.key('m');
      await v.sees('#matrix-title', 'RTT mean');
      await v.key('c');
      await v.sees('#matrix-title', 'an hour ago'.replace('an hour', '1 h'));
      await v.key('c', 'c', 'o', 's', 't', 'ArrowLeft', 'ArrowLeft');
      await until('an instant', () => v.hash().get('at'));
      holds('swapped and sorted', v.hash().get('rows') === 'dst_region' && v.hash().get('sort') === 'worst', v.page.url());
      await v.key('Shift+ArrowLeft');
      await until('a longer span', () => v.hash().get('span'));
      await v.key('End');
      await until('live', () => v.hash().get('at') === null);
      await v.key('v');
      await until('the table', () => v.page.locator('#table table').isVisible());
      await v.key('?');
      await until('help', () => v.page.locator('#help').isVisible());
      await v.key('Escape');
      await until('no help', () => v.page.locator('#help').isHidden());
    }],
    ['what a screen reader finds', of('small'), async (v) => {
      await v.go();
      await v.ready();
      const nameless = await v.page.evaluate(() => [...document.querySelectorAll('button, select, a[href], [tabindex="0"]')].filter((node) => node.checkVisibility() && !(node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.textContent.trim() || node.labels?.length)).map((node) => node.outerHTML.slice(0, 120)));
      same('controls without a name', nameless, []);
      const missing = await v.page.evaluate(() => [...document.querySelectorAll('[aria-labelledby], [aria-describedby], [aria-controls], [aria-activedescendant]')].flatMap((node) => ['aria-labelledby', 'aria-describedby', 'aria-controls', 'aria-activedescendant'].map((name) => node.getAttribute(name)).filter((id) => id && !document.getElementById(id))));
      same('references to nothing', missing, []);
      same('the grid', await v.page.evaluate(() => { const grid = document.getElementById('matrix'); return [grid.getAttribute('role'), grid.getAttribute('aria-rowcount'), grid.getAttribute('aria-colcount')]; }), ['grid', '7', '7']);
    }],
  ],
  texts: [
    ['texts that try to be markup are texts', of('nasty'), async (v) => {
      await v.go();
      await v.ready();
      const rows = Object.keys((await v.table()).rows);
      const expected = NASTY.map((text) => (text === '' ? '(none)' : text));
      same('every tag as it is', [...rows].sort(), [...expected].sort());
      for (const key of ['src_rack', 'dst_region', 'rack']) {
        await v.page.selectOption('#by-key', key);
        holds('values to filter by', (await v.page.locator('#by-value option').count()) > 1, key);
      }
      await v.page.selectOption('#by-key', '');
      for (const text of NASTY) {
        await v.go(`#${new URLSearchParams({ rows: 'src_rack', columns: 'dst_rack', row: text, column: 'rack1', where: `src_rack=${text}` })}`);
        await v.ready();
        await v.sees('#panel', 'Paths');
        await until(`only the row ${JSON.stringify(text)}`, async () => { const seen = Object.keys((await v.table()).rows); if (seen.length === 1) return seen; throw new Error(JSON.stringify(seen)); });
        same('the filter', await v.page.locator('#chips li').count(), 1);
      }
      await v.page.locator('[aria-label=Paths] a').first().click();
      await v.sees('#panel .tags', 'src_rack');
      same('nothing ran', await v.page.evaluate(() => [window.broken ?? null, document.querySelectorAll('main script, main img').length]), [null, 0]);
    }],
    ['the policy refuses what stands in a document', of('small'), async (v) => {
      v.expect(/Content Security Policy/);
      await v.go();
      await v.ready();
      const ran = await v.page.evaluate(() => new Promise((done) => {
        const script = document.createElement('script');
        script.textContent = 'window.inline = 1';
        document.body.append(script);
        const image = new Image();
        image.onerror = () => done([window.inline ?? null, 'refused']);
        image.onload = () => done([window.inline ?? null, 'loaded']);
        image.src = 'http://192.0.2.1/x.png';
      }));
      same('inline scripts and other hosts', ran, [null, 'refused']);
    }],
  ],
  states: [
    ['no history: the remedy', of('none'), async (v) => {
      v.expect(/404/);
      await v.go();
      await v.sees('#state', 'start with --history DIR');
    }],
    ['no interval yet', of('empty'), async (v) => {
      await v.go();
      await v.sees('#state', 'No interval has ended yet');
    }],
    ['filters that nothing matches', of('small'), async (v) => {
      await v.go('#where=dscp%3D63');
      await v.sees('#state', 'No data here');
      await v.page.selectOption('#by-dscp', '*');
      await v.ready();
    }],
    ['a time before everything', of('small'), async (v) => {
      await v.go('#at=2001-01-01T00%3A00%3A00.000Z');
      await v.sees('#state', 'No data here');
    }],
  ],
  large: [
    ['200 x 200 cells stay smooth', of('large', { width: 1600, height: 1000 }), async (v) => {
      await v.go();
      await v.ready();
      await v.page.locator('#zoom-in').click();
      const frames = await v.page.evaluate(async () => {
        const box = document.getElementById('matrix'), times = [];
        let last = performance.now();
        for (let i = 0; i < 90; i += 1) {
          const at = box.getBoundingClientRect();
          box.dispatchEvent(new PointerEvent('pointermove', { clientX: at.x + 150 + i * 7, clientY: at.y + 150 + i * 5, pointerType: 'mouse', bubbles: true }));
          if (i % 3 === 0) box.scrollBy(9, 7);
          await new Promise(requestAnimationFrame);
          times.push(performance.now() - last);
          last = performance.now();
        }
        return times.sort((a, b) => a - b);
      });
      holds('a frame in the middle takes less than half a second', frames[45] < 500, frames[45]);
      await v.page.locator('#zoom-fit').click();
      await v.page.locator('#matrix').focus();
      await v.key('Control+End');
      await until('the last cell', async () => /200|sgp50/.test(await v.page.evaluate(() => document.getElementById('grid-head').textContent)));
      return `frames: median ${frames[45].toFixed(1)} ms, 95 % ${frames[85].toFixed(1)} ms, longest ${frames.at(-1).toFixed(1)} ms`;
    }],
  ],
  broken: [ // they must fail: a test looks whether they do
    ['a wrong expectation', of('small'), async (v) => { await v.go(); await v.ready(); same('columns', (await v.table()).columns, ['none of these']); }],
    ['a console error', of('small'), async (v) => { await v.go(); await v.page.evaluate(() => console.error('on purpose')); }],
    ['another host', of('small'), async (v) => { v.expect(/./); await v.go(); await v.page.evaluate(() => { location.href = 'http://192.0.2.1/'; }).catch(() => {}); await until('the request', () => v.elsewhere.length); }],
  ],
  demo: [
    ['the demo shows its matrix, live', real(), async (v) => {
      await v.go();
      await v.ready();
      const table = await v.table();
      holds('there are cells with loss in percent', Object.values(table.rows).flat().some((text) => / %/.test(text)), table);
      const before = await v.text('#connection');
      await until('a newer interval', async () => { const now = await v.text('#connection'); return now.includes('newest') && now !== before; });
    }],
    ['groups, metrics and filters of the demo', real(), async (v) => {
      await v.go();
      await v.ready();
      await v.page.selectOption('#rows', 'group');
      await v.page.selectOption('#columns', 'dst_ip');
      await until('groups as rows', async () => (await v.table()).caption.includes('group'));
      await v.page.selectOption('#metric', 'rtt_p99');
      await until('delays', async () => Object.values((await v.table()).rows).flat().some((text) => /ms/.test(text)));
      await v.page.selectOption('#by-key', 'dst_ip');
      const value = await v.page.locator('#by-value option').nth(1).getAttribute('value');
      await v.page.selectOption('#by-value', value);
      await until('one column', async () => (await v.table()).columns.join() === value.slice(1));
    }],
    ['from the demo\'s cell to a flow, shared', real(), async (v) => {
      await v.go('#rows=group&columns=dst_ip');
      await v.ready();
      await v.key('g', 'n', 'Enter');
      await v.sees('#panel', 'Paths');
      await v.page.locator('[aria-label=Paths] a').first().click();
      await v.sees('#panel', 'Flows');
      await until('flows', () => v.page.locator('#panel .list a').count());
      const path = await v.text('#panel-title');
      await v.page.locator('#panel .list a').first().click();
      await until('the flow in place of its path', async () => (await v.text('#panel-title')) !== path);
      await v.sees('#panel', 'Over time');
      await v.page.locator('#panel canvas').first().waitFor();
      const title = await v.text('#panel-title'), shared = v.page.url();
      await v.page.goto('about:blank');
      await v.page.goto(shared);
      await v.sees('#panel-title', title);
    }],
    ['scrubbing the demo\'s time', real(), async (v) => {
      await v.go('#range=900');
      await v.ready();
      await v.page.locator('#timeline').focus();
      await v.key('ArrowLeft', 'ArrowLeft');
      await until('an instant', () => v.hash().get('at'));
      await v.key('End');
      await until('live', () => v.hash().get('at') === null);
      await v.page.click('#tab-probers');
      await v.sees('#panel', '127.0.0.1');
    }],
  ],
};

if (!groups[group]) {
  console.log(`groups: ${Object.keys(groups).join(', ')}`);
  process.exit(2);
}
process.exit(await run(groups[group], process.argv[4] ?? (group === 'demo' ? undefined : url)) ? 1 : 0);
