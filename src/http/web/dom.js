// Builds elements. Texts become text nodes: nothing that came over the network is ever read as markup.

export const $ = (id) => document.getElementById(id);

/// An element with attributes (`on…` are listeners, `false` and `null` are left out) and children (texts or nodes).
export function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

/// Replaces what is in `parent`; focus stays on the element with the same `data-key`, if there is one again.
export function fill(parent, ...children) {
  const key = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...children.flat().filter((child) => child != null && child !== false));
  if (key !== undefined) {
    [...parent.querySelectorAll('[data-key]')].find((node) => node.dataset.key === key)?.focus({ preventScroll: true });
  }
}

/// Sets the options of a select; `options` are [value, text].
export function choose(select, options, value) {
  const same = select.options.length === options.length && options.every(([v, t], i) => select.options[i].value === v && select.options[i].text === t);
  if (!same) select.replaceChildren(...options.map(([v, text]) => el('option', { value: v }, text)));
  select.value = value;
}

/// Makes a canvas as sharp as the screen and gives its context in CSS pixels.
export function surface(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/// What screen readers say next; the same text twice is said once.
export function announce(text) {
  const live = $('announce');
  if (live.textContent !== text) live.textContent = text;
}

/// `text` cut to `width` pixels.
export function cut(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle; else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

/// A text on one line: what does not print is shown as a sign for it.
export const oneLine = (text) => text.replace(/[\u0000-\u001f\u007f\u2028\u2029]/g, '↵').replace(/[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '�');
