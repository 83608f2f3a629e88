// What all parts of the page share: its words, what is kept in this browser, views, and what a screen reader is told.

const KEY = "theragen"; // the one name under which anything is ever kept here
const memory = {}; // stands in where the browser lets nothing be kept; gone with the page

/** What `/words/LANGUAGE` gave (interface.py: for_browser). */
export let words = { language: "en", dir: "ltr", texts: {}, bars: {}, zones: {}, skills: [], checkins: {}, directories: {} };

/** A text of the page with its slots filled: t("skill_step", { n: 1, count: 5 }). */
export function t(name, slots = {}) {
  return (words.texts[name] ?? name).replace(/\{(\w+)\}/g, (whole, slot) => slots[slot] ?? whole);
}

/** A text of the page with a node in its slot. */
export function around(name, slot, node) {
  const [before, behind] = t(name).split(`{${slot}}`);
  return [before, node, behind];
}

/** An element: el("button", { type: "button", onclick }, "Save"). Attributes that are null or false are left out; text is never read as HTML. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** A button with a text of ours on it. */
export function button(name, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, t(name));
}

/** What is kept in this browser, by name; nothing is put there but by `set`. */
export const kept = {
  all() {
    try {
      return { ...JSON.parse(localStorage.getItem(KEY)), ...memory };
    } catch {
      return memory;
    }
  },
  get(name) {
    return kept.all()[name];
  },
  /** Returns false where the browser keeps nothing: then it holds until the page is closed. */
  set(name, value) {
    try {
      localStorage.setItem(KEY, JSON.stringify({ ...kept.all(), [name]: value }));
      delete memory[name];
      return true;
    } catch {
      memory[name] = value;
      return false;
    }
  },
  remove(name) {
    delete memory[name];
    const { [name]: _, ...rest } = kept.all();
    try {
      if (Object.keys(rest).length) localStorage.setItem(KEY, JSON.stringify(rest));
      else localStorage.removeItem(KEY);
    } catch {
      // nothing was kept
    }
  },
  forget() {
    for (const name of Object.keys(memory)) delete memory[name];
    try {
      localStorage.removeItem(KEY);
    } catch {
      // nothing was kept
    }
  },
};

/** Whether something was saved, as a sentence. */
export const savedNote = (saved) => t(saved ? "saved" : "not_saved");

/** Let a screen reader say it once. */
export function announce(text) {
  document.getElementById("announced").textContent = text;
}

const views = {};
const listeners = [];
let asked = 0;

/** Name a view of the page: `build()` returns its nodes each time it is opened; the title is the text NAME_title. `bare` ones can't be closed. */
export function view(name, build, { bare = false } = {}) {
  views[name] = { build, bare };
}

export const current = () => document.body.dataset.view ?? "";

/** Show a view in place of the chat, which goes on behind it. The help above stays. */
export function open(name) {
  const { build, bare } = views[name];
  // Back, and Close, lead to the chat, however many views were looked at.
  if (!bare && history.state?.view !== name) history[history.state?.view ? "replaceState" : "pushState"]({ view: name }, "");
  document.body.dataset.view = name;
  const title = el("h2", { id: "view-title", tabindex: "-1" }, t(`${name}_title`));
  const close = bare ? null : button("close", leave, { class: "close" });
  const place = document.getElementById("view");
  place.replaceChildren(el("div", { class: "view-head" }, title, close), ...[build()].flat());
  place.hidden = false;
  place.setAttribute("aria-labelledby", "view-title");
  mark();
  scrollTo(0, 0);
  title.focus({ preventScroll: true });
}

/** Go back once, however often it is pressed: twice would leave the page, and the talk. */
function leave({ currentTarget }) {
  currentTarget.disabled = true;
  history.back();
}

/** Show the chat again. */
export function close() {
  const shown = current();
  delete document.body.dataset.view;
  const place = document.getElementById("view");
  place.hidden = true;
  place.replaceChildren();
  mark();
  scrollTo(0, 0);
  document.querySelector(`#views [data-view="${shown}"]`)?.focus({ preventScroll: true });
}

function mark() {
  for (const opener of document.querySelectorAll("[data-view]:not(body)"))
    opener.setAttribute("aria-expanded", String(opener.dataset.view === current()));
  const chat = document.querySelector("gradio-app");
  chat?.toggleAttribute("inert", Boolean(current()));
}

addEventListener("popstate", (event) => {
  if (views[current()]?.bare) return;
  if (event.state?.view) open(event.state.view);
  else close();
});

/** Call `then` now and whenever the page's words change. */
export function worded(then) {
  listeners.push(then);
  if (words.texts.close) then();
}

/** Fetch the page's words in a language and put them everywhere; without a connection the old ones stay. */
export async function speak(language) {
  const mine = ++asked;
  const shown = current();
  const answer = await fetch(`words/${language}`, { signal: AbortSignal.timeout(15_000) });
  if (!answer.ok) throw new Error(answer.status);
  const given = await answer.json();
  if (mine !== asked) return; // another one was chosen meanwhile
  words = given;
  document.documentElement.lang = words.language;
  document.documentElement.dir = words.dir;
  for (const then of listeners) then();
  if (shown && current() === shown) open(shown);
}

/** Give a text to the person as a file, made here. */
export function download(name, text, kind = "text/plain") {
  const address = URL.createObjectURL(new Blob([text], { type: `${kind};charset=utf-8` }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** Today, as a date that sorts: 2026-11-30, by the device's clock. */
export function today() {
  const now = new Date();
  return [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
}
