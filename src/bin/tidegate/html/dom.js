"use strict";

// What the scripts of all pages build on.

// Three significant digits, and a true minus.
function format(value) {
  const size = Math.abs(value);
  const text = size !== 0 && (size >= 1e4 || size < 1e-3) ? size.toExponential(1) : String(Number(size.toPrecision(3)));
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
