// Requests to the server. What goes wrong becomes a Refusal: a sentence, and whether to try again.

const SILENT =
  "The server does not answer. Check that “captum-plq serve” still runs, then try again.";
const MAY_PASS = new Set([408, 429, 500, 502, 503, 504]);

export class Refusal extends Error {
  constructor(sentence, { again = false, wait = 0 } = {}) {
    super(sentence);
    this.again = again; // whether the same photo may be taken later
    this.wait = wait; // seconds until then
  }
}

export async function about() {
  return answered(await ask("/api/about", {}));
}

export async function assess(photo, signal) {
  return answered(await ask("/api/photo", { method: "POST", body: form({ photo }), signal }));
}

export async function paintOver(photo, region, signal) {
  const body = form({ photo, region });
  return answered(await ask("/api/what-if", { method: "POST", body, signal }));
}

function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) data.append(name, value, "photo");
    else data.append(name, value);
  }
  return data;
}

async function ask(address, options) {
  try {
    return await fetch(address, { credentials: "omit", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(SILENT, { again: true });
  }
}

async function answered(response) {
  let answer;
  try {
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    answer = {};
  }
  if (response.ok && !answer.error) return answer;
  throw new Refusal(answer.error || `The server failed (${response.status}). Try another photo.`, {
    again: MAY_PASS.has(response.status),
    wait: Number(response.headers.get("Retry-After")) || 0,
  });
}
