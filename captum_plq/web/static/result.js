// What is said of a photo: verdict, reasons, regions, before and after, "what if".

import { describe, drawScale } from "./face.js";
import {
  byId, capital, changeInWords, isRetake, isScaled, make, named, points, scoreInWords,
} from "./dom.js";

const WORDS = {
  "nothing to correct": "No reason to take this photo again was found.",
  retake: "Please take this photo again.",
  "perhaps no face": "What was found may be no face. Please take this photo again.",
  "not assessed": "This network has no calibration for these settings, so its quality is not known.",
};
const COUNT = ["", "One reason", "Two reasons", "Three reasons"];

export function showResult(face, answer, name) {
  const retake = isRetake(answer);
  const good = answer.verdict === "nothing to correct";
  byId("verdict").textContent = capital(answer.verdict);
  byId("verdict-words").textContent = WORDS[answer.verdict];
  byId("verdict-icon").setAttribute("href", good ? "#icon-good" : "#icon-retake");
  byId("verdict-box").classList.toggle("retake", !good);
  byId("score").textContent = scoreInWords(answer);
  byId("score-bar").parentElement.hidden = !isScaled(answer);
  byId("score-bar").style.width = `${points(answer) ?? 0}%`;
  byId("score-bar").parentElement.classList.toggle("retake", retake);
  const error = answer.local_quality === null ? answer.standard_error : null;
  const spread = typeof error === "number" ? ` Standard error: ${error.toFixed(4)} of Q.` : "";
  byId("summary").textContent = sentence(answer.summary) + spread;
  showMeaning(answer.meaning);
  byId("face-caption").textContent = name ? `Cut out of ${name} and turned upright.` : "";
  byId("retake").textContent = retake ? "Retake" : "Check another photo";
  byId("retake").classList.toggle("primary", retake);
  const warnings = answer.warnings.map((text) => make("li", { textContent: text }));
  byId("warnings").replaceChildren(...warnings);
  byId("warnings").hidden = !warnings.length;
  face.show(answer);
  byId("map-tools").hidden = !answer.map;
  if (answer.map_scale) drawScale(answer.map_scale);
  showReasons(face, answer);
  showRegions(face, answer);
}

/** How the score stands among good faces, and how often such photos fail, where that was measured. */
function showMeaning(meaning) {
  byId("meaning").textContent = meaning ? sentence(meaning.words) : "";
  byId("meaning").hidden = !meaning;
  byId("measured-on").textContent = meaning?.measured_on ?? "";
  for (const item of document.querySelectorAll("li.meaning")) item.hidden = !meaning;
  for (const item of document.querySelectorAll("li.failing")) item.hidden = !meaning?.measured_on;
}

export function inOneSentence(answer) {
  const causes = answer.reasons.map((reason) => reason.sentence).join(" ");
  return `${capital(answer.verdict)}. ${scoreInWords(answer)}. ${causes}`.trim();
}

function showReasons(face, answer) {
  const count = answer.reasons.length;
  byId("reasons-box").hidden = !count;
  byId("reasons-title").textContent = COUNT[count];
  byId("reasons").replaceChildren(...answer.reasons.map((reason) => reasonItem(face, answer, reason)));
}

function reasonItem(face, answer, reason) {
  const item = make("li", {}, make("p", { className: "sentence", textContent: reason.sentence }));
  const evidence = make("p", { className: "small" });
  if (reason.weak) evidence.append(make("span", { className: "badge", textContent: "Weak evidence" }), " ");
  evidence.append(sentence(reason.evidence.replace(/^weak evidence; /, "")));
  item.append(evidence);
  const shown = reason.regions.filter((name) => answer.regions[name]);
  if (shown.length) {
    const button = make("button", { type: "button", className: "link", textContent: "Show on the face" });
    button.setAttribute("aria-label", `Show on the face: ${named(answer, shown)}`);
    item.append(button);
    face.link(item, button, shown);
  }
  return item;
}

function showRegions(face, answer) {
  const known = Object.entries(answer.regions).filter(([, region]) => region.lost !== null);
  byId("regions-box").hidden = !known.length;
  known.sort(([, one], [, other]) => other.lost - one.lost);
  const most = Math.max(...known.map(([, region]) => region.lost), 0.02);
  byId("regions").tBodies[0].replaceChildren(
    ...known.map(([name, region]) => {
      const button = make("button", { type: "button", className: "link", textContent: capital(region.name) });
      const bar = make("span", { className: "share" });
      bar.style.width = `${Math.max(0, (100 * region.lost) / most)}%`;
      const row = make(
        "tr",
        {},
        make("th", { scope: "row" }, button, bar),
        make("td", { className: "number", textContent: lostInWords(region.lost) }),
        make("td", { textContent: unusualInWords(region.unusual) }),
      );
      face.link(row, button, [name]);
      return row;
    }),
  );
}

function lostInWords(lost) {
  const text = Math.abs(lost).toFixed(3);
  if (text === "0.000") return "none";
  return lost > 0 ? text : `adds ${text}`;
}

function unusualInWords(unusual) {
  if (unusual === null) return "not known";
  const word = unusual < 2 ? "usual" : unusual < 4 ? "unusual" : "very unusual";
  return `${word} (${unusual.toFixed(1).replace("-", "−")})`;
}

const sentence = (text) => capital(text) + (/[.!?…]$/.test(text) ? "" : ".");

export function showComparison(before, after) {
  const faces = before && [before, after].every((x) => x.answer.verdict !== "perhaps no face");
  byId("compare").hidden = !faces;
  if (!faces) return "";
  const words = `${scoreInWords(before.answer)} before, ${valueOf(after.answer)} now: ${changeInWords(before.answer, after.answer)}.`;
  byId("compare-words").textContent = words;
  byId("compare-pair").replaceChildren(
    picture(before.answer.face, describe(before.answer), "Before", before.answer),
    picture(after.answer.face, describe(after.answer), "After", after.answer),
  );
  return words;
}

const valueOf = (answer) => (isScaled(answer) ? points(answer) : answer.quality.toFixed(3));

function picture(source, alt, title, answer, mark = "") {
  const frame = make("div", { className: "frame" }, make("img", { src: source, alt }));
  if (mark) frame.append(make("span", { className: "mark", textContent: mark }));
  const caption = make("figcaption", {}, make("b", { textContent: title }));
  caption.append(make("br"), scoreInWords(answer), make("br"), capital(answer.verdict));
  return make("figure", {}, frame, caption);
}

export function offerWhatIf(answer) {
  const lost = ([, region]) => region.lost ?? 0;
  const single = Object.entries(answer.regions)
    .filter(([name, region]) => name !== "background" && region.polygon.length)
    .sort((one, other) => lost(other) - lost(one))
    .map(([name, region]) => [name, capital(region.name)]);
  const several = answer.reasons.find((reason) => reason.regions.length > 1)?.regions ?? [];
  const group = several.length ? [[several.join(","), named(answer, several)]] : [];
  const options = [...group, ...single].map(([value, text]) => new Option(text, value));
  byId("what-if").hidden = !answer.worst_region;
  byId("what-if-region").replaceChildren(...options);
  const worst = answer.worst_region;
  byId("what-if-region").value = several.includes(worst) ? several.join(",") : (worst ?? "");
  byId("what-if-answer").hidden = true;
  byId("what-if-status").textContent = "";
}

export function showWhatIf(answer, painted, words) {
  const alt = `An illustration: the same face with ${words} painted over. ${scoreInWords(painted)}.`;
  byId("what-if-pair").replaceChildren(
    picture(answer.face, describe(answer), "The photo", answer),
    picture(painted.face, alt, `Painted over: ${words}`, painted, "Illustration"),
  );
  byId("what-if-caution").textContent = painted.caution;
  byId("what-if-answer").hidden = false;
  const change = changeInWords(answer, painted);
  const beside = change === "the same" ? "the same as the photo" : `${change} than the photo`;
  byId("what-if-status").textContent = `Painted over: ${scoreInWords(painted)}, ${beside}.`;
}
