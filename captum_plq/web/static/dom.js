// Small helpers: elements, and numbers in words.

export const byId = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function drawn(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Names of regions, which may hold an "and" themselves. */
export const named = (answer, names) =>
  capital(names.map((name) => answer.regions[name].name).join(" + "));

export const isRetake = (answer) => ["retake", "perhaps no face"].includes(answer.verdict);

export const isScaled = (answer) => typeof answer.scaled_quality === "number";

export function points(answer) {
  return isScaled(answer) ? Math.round(100 * answer.scaled_quality) : null;
}

export function scoreInWords(answer) {
  if (isScaled(answer)) return `Quality ${points(answer)} of 100`;
  return `Q = ${answer.quality.toFixed(3)}`;
}

export function changeInWords(before, after) {
  if (isScaled(before) && isScaled(after)) {
    const change = points(after) - points(before);
    if (!change) return "the same";
    const much = Math.abs(change);
    return `${much} ${much === 1 ? "point" : "points"} ${change > 0 ? "better" : "worse"}`;
  }
  const change = after.quality - before.quality;
  if (Math.abs(change) < 0.0005) return "the same";
  return `${Math.abs(change).toFixed(3)} of Q ${change > 0 ? "better" : "worse"}`;
}

export function shownAs(bytes) {
  return `${Number((bytes / 2 ** 20).toPrecision(3))} MiB`;
}
