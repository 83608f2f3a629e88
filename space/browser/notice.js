// What a person is told before the chat opens, and again after hours: this is an AI. Declining keeps nothing and leads to people.

import { button, close, el, kept, open, t, view } from "./core.js";

const VERSION = { version: "2", date: "2026-11-30" }; // raise it when the notice says something new: it is shown again
const HOUR = 3_600_000;
const BREAK = 0.75 * HOUR;

let minor = false;
let since = Date.now();
let reminded = 0;
let hinted = false;

function notice() {
  const young = el("input", { type: "checkbox", id: "minor", checked: minor });
  const paragraphs = ["consent_what", "consent_not", "consent_kept", "consent_host", "consent_adults"];
  return [
    ...paragraphs.map((name) => el("p", {}, t(name))),
    el("p", {}, el("label", { class: "check" }, young, el("span", {}, t("consent_minor")))),
    el(
      "div",
      { class: "row" },
      button("consent_accept", () => accept(young.checked), { class: "primary", id: "accept" }),
      button("consent_decline", () => open("declined"), { id: "decline" }),
    ),
    el("p", { class: "small" }, `${t("consent_version", VERSION)}. ${t("not_reviewed")}`),
  ];
}

function declined() {
  return [
    el("p", {}, t("declined_text")),
    el("p", {}, t("declined_resources")),
    el("p", {}, el("a", { href: "https://findahelpline.com", rel: "noopener noreferrer", target: "_blank" }, "findahelpline.com")),
    el("div", { class: "row" }, button("declined_back", () => open("consent"), { id: "declined-back" })),
  ];
}

function accept(young) {
  minor = young;
  since = Date.now();
  kept.set("notice", { ...VERSION, minor });
  close();
  // On a phone the box would bring up the keyboard before anything was read.
  const next = matchMedia("(pointer: fine)").matches ? "#message textarea" : "#banner h1";
  document.querySelector(next)?.focus({ preventScroll: true });
}

/** Say again what this is after three hours, after one to a minor, and propose a break before that. */
function remind() {
  const spent = Date.now() - since;
  const every = minor ? HOUR : 3 * HOUR;
  const due = Math.floor(spent / every);
  if (due > reminded) {
    reminded = due;
    show(t(minor ? "reminder_one_hour" : "reminder_three_hours"));
  } else if (!hinted && spent >= BREAK && document.querySelector("#chat .bot")) {
    hinted = true;
    show(t("break_hint"));
  }
}

function show(text) {
  document.getElementById("reminder")?.remove();
  const note = el("div", { id: "reminder", role: "status" }, el("p", {}, text));
  note.append(button("close", () => note.remove()));
  document.getElementById("banner").append(note);
}

export function startNotice() {
  view("consent", notice, { bare: true });
  view("declined", declined, { bare: true });
  const agreed = kept.get("notice");
  minor = Boolean(agreed?.minor);
  if (agreed?.version !== VERSION.version) open("consent");
  setInterval(remind, 60_000);
}
