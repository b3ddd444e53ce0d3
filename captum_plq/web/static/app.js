// The page: a photo comes in, what the server says of it is shown. Nothing is stored in the browser.

import { Refusal, about, assess, paintOver } from "./api.js";
import { Camera, whyNoCamera } from "./camera.js";
import { byId, shownAs } from "./dom.js";
import { Face } from "./face.js";
import { inOneSentence, offerWhatIf, showComparison, showResult, showWhatIf } from "./result.js";

const face = new Face(byId("stage"));
const camera = new Camera(byId("video"));
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const state = {
  current: null, // { photo, name, answer }, the last that was assessed
  running: null, // AbortController of the request under way
  painting: null,
  maxBytes: Infinity,
  fromCamera: false,
  waiting: 0,
};

// ---- A photo comes in

async function take(photo, name, fromCamera = false) {
  state.running?.abort();
  state.painting?.abort();
  const running = (state.running = new AbortController());
  state.fromCamera = fromCamera;
  clearProblem();
  if (photo.size > state.maxBytes) {
    return notTaken(
      `${called(name)}The file has ${shownAs(photo.size)}; at most ${shownAs(state.maxBytes)} can be taken. Scale the photo down and try again.`,
    );
  }
  busy(true, name ? `Looking at ${name} …` : "Looking at the photo …");
  try {
    const answer = await assess(photo, running.signal);
    shown({ photo, name, answer });
  } catch (error) {
    if (error.name === "AbortError") return;
    say("");
    const known = error instanceof Refusal;
    if (!known) console.error(error);
    notTaken(called(name) + (known ? error.message : "The answer cannot be shown. Load the page again."), {
      again: known && error.again ? () => take(photo, name, fromCamera) : null,
      wait: known ? error.wait : 0,
    });
  } finally {
    if (state.running === running) busy(false);
  }
}

const called = (name) => (name ? `${name}: ` : "");

function shown(next) {
  const before = state.current;
  state.current = next;
  byId("older").hidden = true;
  showResult(face, next.answer, next.name);
  face.setOpacity(byId("opacity").value / 100);
  const change = showComparison(before, next);
  offerWhatIf(next.answer);
  byId("result").hidden = false;
  document.body.classList.add("has-result");
  say(`${inOneSentence(next.answer)} ${change}`.trim(), { heardOnly: true });
  byId("verdict").focus({ preventScroll: true });
  scrollTo(byId("result"), "start");
}

function busy(is, words = "") {
  document.body.classList.toggle("busy", is);
  byId("result").setAttribute("aria-busy", String(is));
  if (words) say(words);
}

/** Tell screen readers and, unless the page shows it anyway, everyone. */
function say(words, { heardOnly = false } = {}) {
  byId("status").classList.toggle("hidden", heardOnly);
  byId("status").textContent = words;
}

const scrollTo = (element, block = "nearest") =>
  element.scrollIntoView({ behavior: still.matches ? "auto" : "smooth", block });

/** A photo that got no answer: what is shown is that of the one before, and is said to be. */
function notTaken(sentence, options) {
  byId("older").hidden = !state.current;
  byId("older").textContent = `This is still the answer to ${state.current?.name || "the photo before"}.`;
  showProblem(sentence, options);
}

function showProblem(sentence, { again = null, wait = 0 } = {}) {
  byId("problem").textContent = sentence;
  const button = byId("again");
  button.hidden = !again;
  button.onclick = again;
  button.disabled = wait > 0;
  clearTimeout(state.waiting);
  if (wait > 0) state.waiting = setTimeout(() => (button.disabled = false), 1000 * wait);
  if (document.activeElement === document.body) {
    // the button that was pressed is gone: the next is not to be looked for from the top
    (again && !wait ? button : byId("file")).focus({ preventScroll: true });
  }
  scrollTo(byId("problem"));
}

function clearProblem() {
  byId("problem").textContent = "";
  byId("again").hidden = true;
}

function takeFiles(files) {
  if (!files.length) {
    return showProblem("That was no file. Drop or paste a photo, or choose one.");
  }
  if (files.length > 1) {
    return notTaken(`Those were ${files.length} files. Send one photo at a time.`);
  }
  take(files[0], files[0].name);
}

byId("file").addEventListener("change", () => {
  const [photo] = byId("file").files;
  if (photo) take(photo, photo.name);
  byId("file").value = ""; // so that the same file can be chosen again
});

document.addEventListener("paste", (event) => {
  if (event.target.closest?.("input[type=text], textarea")) return;
  event.preventDefault();
  takeFiles(event.clipboardData.files);
});

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) byId("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  takeFiles(event.dataTransfer.files);
});

// ---- The camera

async function openCamera() {
  clearProblem();
  byId("drop").hidden = true;
  byId("camera").hidden = false;
  byId("camera-take").disabled = true;
  byId("camera-close").focus();
  try {
    if (!(await camera.open())) return;
    byId("camera-take").disabled = false;
    byId("camera-take").focus();
    scrollTo(byId("camera"));
  } catch (error) {
    closeCamera();
    showProblem(error.message);
  }
}

function closeCamera() {
  camera.close();
  byId("camera").hidden = true;
  byId("drop").hidden = false;
  byId("camera-open").focus();
}

byId("camera-open").addEventListener("click", openCamera);
byId("camera-close").addEventListener("click", closeCamera);
byId("camera").addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeCamera();
});
byId("camera-take").addEventListener("click", async () => {
  try {
    const photo = await camera.take();
    closeCamera();
    await take(photo, "", true);
  } catch (error) {
    showProblem(error.message);
  }
});
window.addEventListener("pagehide", () => camera.close());

const reason = whyNoCamera();
byId("camera-open").hidden = Boolean(reason);
byId("camera-none").hidden = !reason;
byId("camera-none").textContent = reason;

// ---- The result

byId("opacity").addEventListener("input", showOpacity);

function showOpacity() {
  const percent = byId("opacity").value;
  byId("opacity-value").textContent = `${percent} %`;
  face.setOpacity(percent / 100);
}
showOpacity();

byId("retake").addEventListener("click", () => {
  say("Take or choose another photo. It is compared with this one.");
  if (state.fromCamera && !byId("camera-open").hidden) return openCamera();
  byId("file").focus({ preventScroll: true });
  scrollTo(byId("drop"));
  byId("file").click();
});

byId("forget").addEventListener("click", () => {
  state.running?.abort();
  state.painting?.abort();
  state.current = null;
  clearProblem();
  byId("stage").replaceChildren();
  for (const id of ["compare-pair", "what-if-pair"]) byId(id).replaceChildren();
  byId("result").hidden = true;
  document.body.classList.remove("has-result");
  say("The photos are forgotten.");
  byId("file").focus();
});

byId("what-if-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  state.painting?.abort();
  const painting = (state.painting = new AbortController());
  const { photo, answer } = state.current;
  const { value, selectedOptions } = byId("what-if-region");
  byId("what-if-answer").hidden = true;
  byId("what-if-status").textContent = "Painting over and scoring …";
  try {
    const painted = await paintOver(photo, value, painting.signal);
    showWhatIf(answer, painted, selectedOptions[0].text.toLowerCase());
    scrollTo(byId("what-if-answer"));
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("what-if-status").textContent = error.message;
  }
});

// ---- The server

const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);

about().then(
  (server) => {
    state.maxBytes = server.max_bytes;
    const size = `${shownAs(server.max_bytes)} and ${Math.round(server.max_pixels / 1e6)} megapixels`;
    const goes = here ? "It stays on this machine" : `It goes to ${location.host} alone`;
    const kept = server.keeps ? ", and is kept there." : " and is not kept.";
    byId("limits").textContent = `A photo of one person, up to ${size}. ${goes}${kept}`;
    const scale = server.calibrated ? "" : ", without a calibration: regions have no scale";
    byId("about").textContent = `captum-plq ${server.version}, network ${server.network}${scale}. It judges the photo, not the person.`;
  },
  (error) => showProblem(error.message),
);
