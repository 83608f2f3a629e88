// Bring a person in: a summary in the person's own words, questions to take along, and where professionals are found. Nothing of it is sent.

import { around, button, current, download, el, kept, savedNote, t, today, view, words } from "./core.js";
import { country } from "./help.js";

const FIELDS = ["what", "since", "helps", "ask", "take"];
const QUESTIONS = [1, 2, 3, 4, 5, 6];
const NOTHING = { name: "", what: "", since: "", helps: "", ask: "", take: "", questions: [] };
const DIALLED = /^[+*]?\d[\d\s()-]*$/; // "119 ext. 8" must not become a call to 119

let written = { ...NOTHING, ...kept.get("human") }; // until the page is closed

function human() {
  return [
    el("p", {}, t("human_why")),
    el("p", { class: "small" }, t("saved_here_only")),
    summary(),
    el("section", {}, el("h3", {}, t("human_find")), el("p", {}, t("human_find_how")), found()),
    el("p", { class: "small" }, t("not_reviewed")),
    el("article", { id: "human-paper" }),
  ];
}

function summary() {
  const note = el("p", { id: "human-note", class: "small", role: "status" });
  const change = (name, value) => {
    written = { ...written, [name]: value };
    note.textContent = "";
  };
  const boxes = FIELDS.map((name) =>
    el("textarea", { id: `human-${name}`, rows: name === "what" ? 5 : 2, dir: "auto", autocomplete: "off", oninput: (event) => change(name, event.target.value) }),
  );
  const name = el("input", { id: "human-name", dir: "auto", maxlength: "80", autocomplete: "off", "aria-describedby": "human-date", oninput: (event) => change("name", event.target.value) });
  const choices = QUESTIONS.map((number) => el("input", { type: "checkbox", id: `human-question-${number}`, onchange: choose }));
  function choose() {
    change("questions", QUESTIONS.filter((_, index) => choices[index].checked));
  }
  function fill() {
    FIELDS.forEach((field, index) => (boxes[index].value = written[field]));
    QUESTIONS.forEach((number, index) => (choices[index].checked = written.questions.includes(number)));
    name.value = written.name;
  }
  function takeOver() {
    const before = written.what.trim();
    change("what", [before, ...saidInChat().filter((text) => !before.includes(text))].filter(Boolean).join("\n\n"));
    fill();
    boxes[0].focus();
  }
  function give() {
    const parts = filled();
    if (parts.length) download(`theragen-${today()}.txt`, [`${t("human_summary")}\n${signed()}`, ...parts.map((part) => part.join("\n"))].join("\n\n"));
    note.textContent = t(parts.length ? "download_note" : "human_empty");
  }
  function paper() {
    if (filled().length) print();
    else note.textContent = t("human_empty");
  }
  function remove() {
    if (!confirm(t("human_delete_confirm"))) return;
    kept.remove("human");
    written = { ...NOTHING };
    fill();
    note.textContent = t("human_deleted");
  }
  fill();
  const fields = FIELDS.map((field, index) => el("div", { class: "field" }, el("label", { for: `human-${field}` }, t(`human_${field}`)), boxes[index]));
  if (saidInChat().length) fields[0].append(button("human_from_chat", takeOver, { id: "human-from-chat", class: "quiet" }));
  const questions = choices.map((box, index) => el("li", {}, el("label", { class: "check" }, box, el("span", {}, t(`human_question_${QUESTIONS[index]}`)))));
  return el(
    "section",
    { id: "human" },
    el("h3", {}, t("human_summary")),
    ...fields,
    el("h3", { id: "human-questions" }, t("human_questions")),
    el("ul", { class: "human-questions", "aria-labelledby": "human-questions" }, questions),
    el("div", { class: "field" }, el("label", { for: "human-name" }, t("human_name")), name, el("p", { id: "human-date", class: "small" }, around("human_date", "date", day(today())))),
    el("p", {}, t("human_edit")),
    el(
      "div",
      { class: "row" },
      button("save_text", give, { id: "human-text" }),
      button("print", paper, { id: "human-print" }),
      button("keep_here", () => (note.textContent = savedNote(kept.set("human", written))), { id: "human-save" }),
      button("delete", remove, { id: "human-delete", class: "quiet" }),
    ),
    note,
  );
}

/** What the person wrote in this chat, as the page shows it. */
function saidInChat() {
  return [...document.querySelectorAll("#chat .user .message-content")].map((shown) => {
    const copy = shown.cloneNode(true); // hidden behind the view, it has no innerText
    for (const end of copy.querySelectorAll("br")) end.replaceWith("\n");
    for (const block of copy.querySelectorAll("p, li, pre")) block.append("\n");
    return copy.textContent.replace(/\n{3,}/g, "\n\n").trim();
  });
}

/** What the summary holds, as pairs of heading and text; what was left empty is left out. Chosen questions stand with what the person asks. */
function filled() {
  const asked = written.questions.map((number) => `– ${t(`human_question_${number}`)}`);
  const text = (name) => [written[name].trim(), ...(name === "ask" ? asked : [])].filter(Boolean).join("\n");
  return FIELDS.map((name) => [t(`human_${name}`), text(name)]).filter((part) => part[1]);
}

const signed = () => [written.name.trim(), today()].filter(Boolean).join(", ");

/** Write the summary for paper, however printing was asked for. */
function write() {
  if (current() !== "human") return;
  const parts = filled().flatMap(([heading, text]) => [el("h4", {}, heading), el("p", { dir: "auto" }, text)]);
  document.getElementById("human-paper").replaceChildren(el("h3", {}, t("human_summary")), el("p", {}, el("bdi", {}, signed())), ...parts);
}

function found() {
  const entries = words.directories[country()] ?? [];
  const hint = entries.length ? el("p", { class: "small" }, t("human_unvisited")) : null;
  return el("div", { id: "human-found" }, hint, el("ul", {}, entries.map(entry)));
}

function entry({ name, kind, url, phone, languages, note, source, checked }) {
  const tongue = new Intl.DisplayNames([words.language], { type: "language" });
  const tongues = new Intl.ListFormat(words.language, { type: "unit" }).format(languages.map((code) => tongue.of(code)));
  return el(
    "li",
    {},
    el("p", {}, away(url, name, { class: "human-name", dir: "auto" }), phone && " · ", phone && dialled(phone)),
    el("p", {}, `${t(`human_kind_${kind.replaceAll("-", "_")}`)} · ${t("human_languages", { languages: tongues })}`),
    el("p", { lang: "en", dir: "ltr" }, note),
    el(
      "p",
      { class: "small" },
      around("source", "source", away(source.url, source.title, { dir: "auto" })),
      " · ",
      checked ? around("human_checked", "date", day(checked)) : t("human_unchecked"),
    ),
  );
}

const day = (date) => el("time", { dir: "ltr", datetime: date }, date);
const away = (href, text, attributes) => el("a", { href, target: "_blank", rel: "noopener noreferrer", ...attributes }, text);

function dialled(phone) {
  if (!DIALLED.test(phone)) return el("bdi", {}, phone);
  return el("a", { href: `tel:${phone.replace(/[^\d+*]/g, "")}`, class: "human-phone", dir: "ltr" }, phone);
}

export function startHuman() {
  view("human", human);
  addEventListener("forgotten", () => {
    written = { ...NOTHING };
  });
  addEventListener("beforeprint", write);
  document.getElementById("country").addEventListener("change", () => document.getElementById("human-found")?.replaceWith(found()));
}
