/* What a person would see on the page, for the tests: sizes, colours, controls. Changes nothing. */
"use strict";

globalThis.look = (() => {

const name = element => {
  const id = element.id ? `#${element.id}` : "";
  const text = element.textContent.trim().slice(0, 30);
  return `${element.tagName.toLowerCase()}${id} ${JSON.stringify(text)}`;
};

const isShown = element => element.checkVisibility() && element.getClientRects().length > 0;

/* What is cut away on purpose, for screen readers alone. */
const isUnseen = element => element.closest(".unseen") !== null;

const shown = () => [...document.body.querySelectorAll("*")]
  .filter(element => isShown(element) && !isUnseen(element));

/* The elements with text of their own. */
const texts = () => shown().filter(element =>
  [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()));

/* What is wider than the screen, and not within something that scrolls by itself. */
function wide() {
  const scrolls = element => element.closest(".scroll, #slots") !== null;
  const found = shown().filter(element => !scrolls(element.parentElement))
    .filter(element => element.getBoundingClientRect().right > screen.width + 0.5);
  if (innerWidth > screen.width) found.unshift(document.documentElement);
  return found.map(name);
}

/* Text that is smaller than this many pixels. */
const small = least => texts()
  .filter(element => parseFloat(getComputedStyle(element).fontSize) < least).map(name);

/* Cells that a finger cannot tell apart: a circle of 24 pixels around one meets another. */
function crowded() {
  const middles = [...document.querySelectorAll("#slots .slot")].map(cell => {
    const { left, top, width, height } = cell.getBoundingClientRect();
    return { cell, x: left + width / 2, y: top + height / 2 };
  });
  return middles.filter((one, at) => middles.slice(at + 1)
    .some(other => Math.hypot(one.x - other.x, one.y - other.y) < 24 - 0.1)).map(({ cell }) => name(cell));
}

/* ---- colours ---- */

/* Red, green and blue from 0 to 255, and how opaque it is, as the browser would paint it. */
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
function colour(text) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return [red, green, blue, alpha / 255];
}

const over = ([...front], back) => {
  const alpha = front[3];
  return [0, 1, 2].map(at => front[at] * alpha + back[at] * (1 - alpha));
};

/* What is behind the text of an element. */
function ground(element) {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const style = getComputedStyle(at);
    if (style.backgroundImage !== "none") throw new Error(`${name(at)} has a picture behind it`);
    layers.push(colour(style.backgroundColor));
  }
  const canvasColour = getComputedStyle(document.documentElement).colorScheme;
  const isDark = canvasColour.includes("dark") && matchMedia("(prefers-color-scheme: dark)").matches;
  return layers.reverse().reduce((back, front) => over(front, back), isDark ? [18, 18, 18] : [255, 255, 255]);
}

function luminance(rgb) {
  const [red, green, blue] = rgb.map(value => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function ratio(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

const opacity = element => {
  let all = 1;
  for (let at = element; at; at = at.parentElement) all *= parseFloat(getComputedStyle(at).opacity);
  return all;
};

/* Text whose contrast is less than this. */
function faint(least) {
  const found = texts().map(element => {
    const back = ground(element);
    const front = colour(getComputedStyle(element).color);
    front[3] *= opacity(element);
    return [element, ratio(over(front, back), back)];
  });
  return found.filter(([, value]) => value < least).map(([element, value]) => `${name(element)} ${value.toFixed(2)}`);
}

/* States whose cells stand out less than this from what is behind them. */
function pale(least) {
  return [...document.querySelectorAll("#legend .slot")].flatMap(cell => {
    const value = ratio(over(colour(getComputedStyle(cell).borderTopColor), [0, 0, 0]), ground(cell.parentElement));
    return value < least ? [`${cell.className} ${value.toFixed(2)}`] : [];
  });
}

const background = () => getComputedStyle(document.body).backgroundColor;

/* ---- controls ---- */

/* What takes part in what a keyboard reaches: also what scrolls and has nothing in it that does. */
const controls = () => shown().filter(element =>
  element.matches("a[href], summary, button, input, select, textarea, [tabindex='0']")
  || element.matches(".scroll") && element.scrollWidth > element.clientWidth).map(name);

/* The element with the focus, and whether one sees that it has it. */
function focused() {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(element);
  const isDrawn = outlineStyle !== "none" && parseFloat(outlineWidth) >= 1;
  const back = ground(element.parentElement);
  const contrast = ratio(over(colour(outlineColor), back), back);
  return { name: name(element), isSeen: isDrawn && contrast >= 3, outline: `${outlineStyle} ${outlineWidth} ${outlineColor} ${contrast.toFixed(2)}` };
}

return { background, controls, crowded, faint, focused, pale, small, wide };
})();
