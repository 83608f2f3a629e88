// The chat's own side in the browser: what the steps of app.py call as `theragen`, how to begin, and what a screen reader is told.

import { dropReading } from "./connection.js";
import { announce, button, download as give, el, kept, open, t, today, words, worded } from "./core.js";
import { country } from "./help.js";
import { choices } from "./settings.js";

const STARTERS = ["sleep", "worry", "lonely", "grief", "argument", "stress", "low", "someone", "begin"];

const ENOUGH = 120; // pixels of the talk that must be in sight when it goes on
const LONG = 3000; // milliseconds after which a stopped reply is taken for gone
const TWICE = 700; // within which a second press is a slip
const LOST = 20_000; // and a message on its way for lost

let sending = ""; // the message that is on its way
let handed = ""; // the message that was pressed for last, until it has arrived
let last = { text: "", at: -Infinity }; // what was pressed for, and when
let draft = ""; // what stood in the box when an earlier message was asked again
let anew = ""; // the message that takes the place of the last one, when it goes
let arrive = () => {};
let arriving = Promise.resolve(); // the talk with the message in it; nothing where it never came
let wipes = 0; // how often a person cleared the talk
let wiped = false; // nothing was sent since the talk was cleared
let replying = false;
let begun = false;
let brought = false;
let unfolded = false; // the heavy reply that is being written was opened: every new word builds it anew, closed
let documents = ""; // what these are called, with the language that they are in
let byHand = true; // Clear was pressed by a person
let rest = 0;
let letGo = () => {};
let turn = Promise.resolve(); // messages go one after the other
let gone = Promise.resolve(); // once a stopped reply can write on the page no more: its stream goes on until the server heard of it

const box = () => document.querySelector("#message textarea");
const newest = () => [...document.querySelectorAll("#chat .bot")].at(-1);
const lastFold = () => newest()?.querySelector("details.heavy");

/** What a turn says as text, whether the page or the server made it. */
function plain(content) {
  if (Array.isArray(content)) return content.map((part) => (typeof part === "string" ? part : (part.text ?? ""))).join("");
  return typeof content === "string" ? content : "";
}

const isCard = (turn) => plain(turn.content).startsWith('<div class="help-card">');

/** Help cards and heavy replies are HTML. */
function withoutHtml(text) {
  if (!/^<(div|details) /.test(text)) return text;
  const read = new DOMParser().parseFromString(text.replace(/<\/(p|li|summary)>/g, "$&\n\n"), "text/html");
  return read.body.textContent.replace(/\n{3,}/g, "\n\n").trim();
}

function asText(chat) {
  const said = chat.map((turn) => `${turn.role === "user" ? t("you") : "TheraGen"}:\n${withoutHtml(plain(turn.content)).trim()}`);
  return [`TheraGen, ${today()}. ${t("with_ai")}`, ...said].join("\n\n");
}

function lastOfThePerson(chat) {
  return chat.findLastIndex((turn) => turn.role === "user");
}

/** Put words in the box as if they had been typed, and send them if asked to. */
export function write(text, { send = false } = {}) {
  const place = box();
  if (send && place.value.trim()) draft = place.value;
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(place, text);
  place.dispatchEvent(new Event("input", { bubbles: true }));
  if (send) setTimeout(() => document.getElementById("send").click(), 50); // once the box has told its owner
  const keyboard = send && !matchMedia("(pointer: fine)").matches; // a phone's would come up; the starter that has the focus goes
  (keyboard ? document.getElementById("send") : place).focus({ preventScroll: keyboard });
}

function trouble(text) {
  const place = document.getElementById("trouble");
  if (place) place.textContent = text;
}

function personal() {
  const { language, pace, style, name, context } = choices();
  return { country: country(), language, pace, style, name, context };
}

function begins() {
  replying = true;
  begun = brought = unfolded = false;
  document.body.dataset.replying = "";
  unoffer();
  trouble("");
}

function ends(said = t("reply_ended")) {
  if (!replying) return;
  replying = false;
  delete document.body.dataset.replying;
  announce(said);
  if (said) setTimeout(offer, 100); // once the last words are on the page
}

/** The reply is not wanted any more. */
function stops(said) {
  if (!replying) return;
  gone = new Promise((done) => {
    letGo = done;
    setTimeout(done, LONG);
  });
  ends(said);
}

/**
 * Stop a reply and wait until it is gone: it would write its own idea of the talk over the message that comes next, and over a help card.
 * Gives the talk as it is then, with the message that was still on its way, and what it called for.
 */
async function halt(chat) {
  const late = sending && arriving;
  if (replying) document.getElementById("stop").click();
  await gone;
  return (late && (await late)) || chat;
}

function wipe() {
  wiped = true;
  wipes += 1;
  sending = handed = draft = anew = "";
  dropReading();
  unoffer();
  announce(""); // it may hold what a card says
  return ["", []];
}

/** The steps of app.py. Each returns the values of the components that its step reads or writes, in their order. */
const steps = {
  async sending(message, chat) {
    if (!message.trim()) {
      trouble(t("empty_message"));
      return [message, chat, personal()];
    }
    handed = message;
    const count = wipes;
    const talk = await (turn = turn.then(() => halt(chat)));
    if (count !== wipes) return new Promise(() => {}); // cleared meanwhile: it never goes
    const before = wiped ? [] : anew && anew === message ? talk.slice(0, lastOfThePerson(talk)) : talk;
    wiped = false;
    begins();
    sending = message;
    arriving = new Promise((done) => {
      arrive = done;
      setTimeout(done, LOST);
    });
    announce(t("writing"));
    return [message, before, personal()];
  },
  /** The message has arrived: the box is emptied of it, and of nothing that was typed since. */
  sent(now, chat) {
    const left = now === sending ? draft : sending && now.startsWith(sending) ? now.slice(sending.length).trimStart() : now;
    if (handed === sending) handed = "";
    sending = draft = anew = "";
    if (!replying && !wiped && isCard(chat.at(-1) ?? {})) setTimeout(readCard, 100); // stopped on its way, it calls for help all the same
    arrive(chat);
    return left;
  },
  asking(chat) {
    if (!replying) throw new Error("stopped before it began");
    return [chat, personal()];
  },
  ended() {
    ends();
    readCard();
  },
  /** The message did not arrive: it may be sent again. */
  unsent() {
    handed = last.text = "";
    steps.failed();
  },
  /** Also what Gradio calls when a reply was stopped. */
  failed() {
    letGo();
    arrive();
    if (!replying) return;
    ends("");
    trouble(navigator.onLine ? t(begun ? "connection_lost" : "unsent") : t("offline"));
  },
  /** Put the last message in the box to be sent again; it stays on the page until it has arrived. */
  async again(message, now) {
    const chat = await halt(now);
    if (sending && message.trim()) return [message, chat]; // it never arrived: this is what is tried again
    const last = lastOfThePerson(chat);
    if (last < 0) return [message, chat];
    const text = plain(chat[last].content);
    if (message !== text) draft = message;
    anew = text;
    return [text, chat];
  },
  async edit(message, now) {
    const chat = await halt(now);
    const last = lastOfThePerson(chat);
    if (last < 0) return [message, chat];
    unoffer();
    setTimeout(() => box().focus(), 100);
    return [[plain(chat[last].content), message.trim()].filter(Boolean).join("\n\n"), isCard(chat.at(-1)) ? chat : chat.slice(0, last)]; // help that was shown stays
  },
  async copy(chat) {
    try {
      await navigator.clipboard.writeText(asText(chat));
      announce(t("copied"));
      trouble(t("copied"));
    } catch {
      give("theragen.txt", asText(chat)); // the browser does not let a page copy
    }
  },
  download(chat) {
    give(`theragen-${today()}.txt`, asText(chat));
    trouble(t("download_note"));
  },
  cleared(message) {
    if (!byHand) return [message, []]; // a stopped reply was written late
    trouble("");
    setTimeout(() => box().focus(), 100);
    return wipe();
  },
  forgotten() {
    kept.forget();
    dispatchEvent(new Event("forgotten"));
    setTimeout(() => trouble(t("forgotten")), 100);
    return wipe();
  },
  /** After clearing: what a stopped reply wrote meanwhile goes, too. */
  async emptied(chat) {
    await gone;
    return wiped ? [] : chat;
  },
};

/** A card is read out, and shown from its beginning. */
function readCard() {
  const card = newest()?.querySelector(".help-card");
  if (!card) return;
  announce([...card.querySelectorAll("p, li")].map((part) => part.textContent).join(" "));
  bring(document.querySelector("#chat"));
  const log = card.closest("[role=log]");
  setTimeout(() => (log.scrollTop += card.getBoundingClientRect().top - log.getBoundingClientRect().top - 8), 400); // after Gradio's own scrolling
}

function showStarters() {
  const place = document.getElementById("starters");
  if (!place) return;
  const row = STARTERS.map((name) =>
    button(`starter_${name}`, () => write(t(`starter_${name}_message`), { send: true }), { class: "starter" }),
  );
  place.replaceChildren(el("p", {}, t("starters")), el("div", { class: "row" }, row), ...note());
}

/** Where the model does not write a language well, the page says so before the first word. */
function note() {
  const written = document.getElementById("banner").dataset.written.split(" ");
  if (written.includes(words.language)) return [];
  return [el("p", { class: "small", id: "language-note" }, t("language_note", { language: words.languages[words.language] }))];
}

function unoffer() {
  document.getElementById("offered")?.remove();
}

/** Names of exercises that a reply mentions become buttons under it; after a help card it is the safety plan. */
function offer() {
  unoffer();
  const last = newest();
  if (!last) return;
  const card = last.querySelector(".help-card");
  const said = last.textContent.toLowerCase();
  const named = words.skills.filter(({ up_to, texts }) =>
    card ? up_to === "risk" : said.includes(texts.title.split(/[:：]/)[0].toLowerCase()),
  );
  const rated = !card && document.getElementById("banner").dataset.feedback === "1";
  const thumbs = rated ? [rate("helpful", "up"), rate("not_helpful", "down")] : [];
  if (!named.length && !thumbs.length) return;
  const skills = named.map((skill) =>
    el("button", { type: "button", class: "starter", onclick: () => openSkill(skill.id) }, skill.texts.title),
  );
  document.getElementById("trouble")?.before(el("div", { id: "offered", class: "row" }, skills, thumbs));
}

function openSkill(id) {
  dispatchEvent(new CustomEvent("skill", { detail: id }));
}

function rate(name, rating) {
  return button(
    name,
    async (event) => {
      const row = event.target.parentNode;
      await fetch("feedback", { method: "POST", body: rating }).catch(() => null);
      row.replaceChildren(el("p", { class: "small" }, `${t("feedback_thanks")} ${t("feedback_only_rating")}`));
    },
    { class: "quiet", title: t("feedback_only_rating") },
  );
}

/** Gradio's parts take their words from the browser's language; another one that the person chose is put over them. */
function label() {
  for (const name of ["send", "stop", "speak", "retry", "edit_last", "copy", "download", "read_aloud", "clear", "forget"]) {
    const made = document.getElementById(name);
    const said = t(made?.dataset.said ?? name);
    if (made && made.textContent.trim() !== said) made.textContent = said;
  }
  const place = box();
  if (place) {
    place.placeholder = t("message_placeholder");
    place.setAttribute("aria-label", t("message_label"));
  }
  const about = document.querySelector("#about button span");
  if (about && about.textContent !== documents) about.textContent = documents;
}

/** On a phone on its side, who writes does not see the talk: what comes now, maybe a help card, must not stay above the screen. */
function bring(chat) {
  const { top, bottom } = chat.getBoundingClientRect();
  const help = document.getElementById("help");
  const covered = help.classList.contains("scrolls") ? 0 : help.offsetHeight;
  if (Math.min(bottom, visualViewport.height) - Math.max(top, covered) < ENOUGH) chat.scrollIntoView({ block: "end" });
}

/** Gradio builds its part later, and builds parts of it anew: what it makes is seen to whenever it changes. */
function tend() {
  const chat = document.querySelector("#chat");
  if (!chat) return;
  const talking = Boolean(chat.querySelector(".message"));
  if (("talking" in document.body.dataset) !== talking) {
    if (talking) document.body.dataset.talking = "";
    else delete document.body.dataset.talking;
  }
  if (wiped && talking && !replying) {
    clearTimeout(rest); // what Gradio had received before it heard of the stop is written late
    rest = setTimeout(() => wiped && !replying && document.getElementById("clear").click(), 200);
  }
  if (unfolded && lastFold()) lastFold().open = true;
  if (replying && talking && !brought) {
    brought = true;
    bring(chat);
  }
  const log = chat.querySelector("[aria-live]:not([aria-live=off])");
  log?.setAttribute("aria-live", "off"); // else every new word would be read out
  log?.setAttribute("tabindex", "0");
  if (replying && !begun && !sending && newest()) {
    const last = [...chat.querySelectorAll(".message")].at(-1);
    if (last?.closest(".bot") && last.textContent.trim()) {
      begun = true;
      announce(t("reply_begins"));
    }
  }
}

export function startChat() {
  window.theragen = steps;
  // Before Gradio hears of it, since for Gradio a reply that is stopped has failed.
  const stopping = { stop: () => t("reply_ended"), clear: () => "", forget: () => "" };
  // An empty message, which Gradio would take for the end of the reply that is being written, and one that is on its way already.
  const unneeded = (event) => {
    const text = box()?.value ?? "";
    const twice = text === last.text && event.timeStamp - last.at < TWICE;
    if (text.trim() && text !== handed && !twice) {
      last = { text, at: event.timeStamp };
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!text.trim()) trouble(t("empty_message"));
  };
  document.addEventListener("keypress", (event) => {
    if (event.key === "Enter" && !event.shiftKey && event.target === box()) unneeded(event);
  }, true);
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#send")) return unneeded(event);
    const pressed = event.target.closest?.("#stop, #clear, #forget");
    if (pressed?.id === "forget" && !confirm(t("forget_confirm"))) return event.stopImmediatePropagation(); // before anything is stopped
    if (pressed) {
      byHand = event.isTrusted;
      stops(stopping[pressed.id]());
    }
    const fold = event.target.closest?.("details.heavy > summary")?.parentNode;
    if (fold && fold === lastFold()) unfolded = !fold.open;
  }, true);
  let wait = 0;
  let built = false;
  new MutationObserver(() => {
    cancelAnimationFrame(wait);
    wait = requestAnimationFrame(() => {
      if (!built && document.getElementById("starters") && words.texts.close) {
        built = true;
        document.getElementById("opening")?.remove();
        showStarters();
      }
      if (built) label();
      tend();
    });
  }).observe(document.querySelector("gradio-app"), { childList: true, subtree: true, characterData: true });
  addEventListener("offline", () => trouble(t("offline")));
  addEventListener("online", () => trouble(""));
  worded(() => {
    documents = t("about");
    if (words.language !== "en") documents += ` (${new Intl.DisplayNames([words.language], { type: "language" }).of("en")})`;
    document.getElementById("banner-text").textContent = t("banner");
    showStarters();
    label();
  });
}
