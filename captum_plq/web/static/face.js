// The aligned face, the map over it, and the outlines of regions that light up.

import { byId, capital, drawn, make, named, scoreInWords } from "./dom.js";

export class Face {
  constructor(stage) {
    this.stage = stage;
    this.answer = null;
    this.asked = { pointed: null, focused: null, held: null };
  }

  show(answer) {
    this.answer = answer;
    this.asked = { pointed: null, focused: null, held: null };
    this.tag = make("p", { className: "tag", hidden: true });
    this.tag.setAttribute("aria-hidden", "true");
    this.outlines = drawn("svg", {
      viewBox: "0 0 100 100",
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    for (const [name, region] of Object.entries(answer.regions)) {
      const pieces = (region.polygons ?? [region.polygon]).filter((piece) => piece.length);
      const group = drawn("g", { "data-region": name });
      for (const piece of pieces) {
        const points = piece.map(([x, y]) => `${100 * x},${100 * y}`).join(" ");
        group.append(drawn("polygon", { points, class: "under" }), drawn("polygon", { points }));
      }
      this.outlines.append(group);
    }
    const layers = [make("img", { src: answer.face, alt: describe(answer), className: "photo" })];
    this.map = answer.map ? make("img", { src: answer.map, alt: "", className: "map" }) : null;
    if (this.map) layers.push(this.map);
    this.stage.replaceChildren(...layers, this.outlines, this.tag);
  }

  setOpacity(share) {
    if (this.map) this.map.style.opacity = share;
  }

  /** Light regions while `area` is pointed at or `button` has the focus; a press holds them. */
  link(area, button, names) {
    const set = (how, value) => {
      this.asked[how] = value;
      this.draw();
    };
    area.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "touch") set("pointed", names);
    });
    area.addEventListener("pointerleave", () => set("pointed", null));
    button.addEventListener("focus", () => {
      if (button.matches(":focus-visible")) set("focused", names);
    });
    button.addEventListener("blur", () => set("focused", null));
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const held = button.getAttribute("aria-pressed") === "true";
      for (const other of document.querySelectorAll("#result [aria-pressed=true]")) {
        other.setAttribute("aria-pressed", "false");
      }
      button.setAttribute("aria-pressed", String(!held));
      set("held", held ? null : names);
      if (!held) this.stage.scrollIntoView({ block: "nearest" });
    });
  }

  draw() {
    const names = this.asked.pointed ?? this.asked.focused ?? this.asked.held ?? [];
    for (const group of this.outlines.children) {
      group.classList.toggle("lit", names.includes(group.dataset.region));
    }
    this.stage.classList.toggle("lighting", names.length > 0);
    this.tag.hidden = !names.length;
    this.tag.textContent = named(this.answer, names);
  }
}

export function describe(answer) {
  const worst = answer.worst_region ? answer.regions[answer.worst_region].name : "";
  const where = worst ? ` Most quality is lost here: ${worst}.` : "";
  return `The face, cut out and turned upright. ${scoreInWords(answer)}, ${answer.verdict}.${where}`;
}

export function drawScale(scale) {
  const colours = scale.colours.join(", ");
  byId("bar").style.backgroundImage = `linear-gradient(to right, ${colours})`;
  byId("bar-low").textContent = capital(scale.low_text);
  byId("bar-high").textContent = capital(scale.high_text);
  byId("bar").setAttribute(
    "aria-label",
    `Colours of the map, from left to right: ${scale.low_text}; no colour: as in good faces; ${scale.high_text}.`,
  );
}
