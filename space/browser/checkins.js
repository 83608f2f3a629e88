// Check-ins: questionnaires and a slider for mood. Answers live in the form alone; kept are a date and a sum, if the person saves them.

import { announce, around, button, current, download, el, kept, open, savedNote, t, today, view, words } from "./core.js";

const DAY = 86_400_000;
const KEPT = "checkins"; // [{date, id, score}], the mood among them

const named = (id) => words.checkins.instruments.find((one) => one.id === id);
const outOf = (score, most) => t("checkins_score", { score, most });
const asDate = (date) => new Date(date).toLocaleDateString(words.language, { dateStyle: "medium", timeZone: "UTC" });

/** What a number can be of, in the order in which it is shown. */
function kinds() {
  const { instruments = [], mood } = words.checkins;
  const asked = instruments.map(({ id, name, texts, scoring }) => ({ id, name, title: texts.title, most: scoring.most, higher: t("checkins_higher") }));
  if (!mood) return asked;
  const { id, most, texts } = mood;
  return [...asked, { id, name: id, title: texts.question, most, higher: `0: ${texts.words[0]}. ${most}: ${texts.words.at(-1)}.` }];
}

const all = () => [kept.get(KEPT) ?? []].flat();

/** What is kept and can be shown, the oldest first. */
function records() {
  const known = new Map(kinds().map((kind) => [kind.id, kind]));
  const read = all().filter((record) => known.has(record?.id) && Date.parse(record.date) && Number.isInteger(record.score));
  return read.map((record) => ({ ...record, kind: known.get(record.id) })).sort((a, b) => Date.parse(a.date) - Date.parse(b.date));
}

const lastOf = (id) => records().findLast((record) => record.id === id);

/** A button that saves what `read()` gives, once, until it is let again. */
function saving(id, read, then = () => {}) {
  const note = el("p", { class: "small", role: "status" });
  const press = button("save", () => {
    if (press.getAttribute("aria-disabled")) return;
    press.setAttribute("aria-disabled", "true");
    note.textContent = savedNote(kept.set(KEPT, [...all(), { date: today(), id, score: read() }]));
    then();
  }, { class: "primary" });
  const again = () => {
    press.removeAttribute("aria-disabled");
    note.textContent = "";
  };
  return [el("div", { class: "row" }, press, note), again];
}

/** Put other nodes into the open view and the focus on the first; the help covers the top of the page. */
function show(...nodes) {
  const place = document.getElementById("checkins");
  place.replaceChildren(...el("div", {}, ...nodes).childNodes);
  place.firstChild.setAttribute("tabindex", "-1");
  scrollTo(0, place.getBoundingClientRect().top + scrollY - document.getElementById("help").offsetHeight - 16);
  place.firstChild.focus({ preventScroll: true });
}

function list() {
  const { instruments = [], mood } = words.checkins;
  const cards = instruments.map(({ id, texts }) => {
    const [title, opener] = [`checkin-${id}`, `start-${id}`];
    const start = button("start", () => questionnaire(named(id)), { id: opener, "aria-labelledby": `${opener} ${title}` });
    return el("li", {}, el("h3", { id: title }, texts.title), el("p", {}, texts.intro), start);
  });
  return [
    el("p", {}, t("checkins_what")),
    el("p", { class: "small" }, t("saved_here_only")),
    mood ? slider(mood) : null,
    el("ul", { class: "checkins-cards" }, cards),
    overTime(),
    el("p", { class: "small" }, t("not_reviewed")),
  ];
}

function slider({ id, least, most, words_from, low_note_up_to, texts }) {
  const said = el("p", { class: "checkins-mood", "aria-hidden": "true" }); // the slider itself says it
  const low = el("p", { role: "status" });
  const moved = el("input", { type: "range", id: "mood", min: least, max: most, value: Math.round((least + most) / 2), autocomplete: "off" });
  const value = () => Number(moved.value);
  const [save, again] = saving(id, value, () => document.getElementById("checkins-over").replaceWith(overTime()));
  const tell = () => {
    const word = texts.words[words_from.findLastIndex((from) => from <= value())];
    const note = value() <= low_note_up_to ? texts.low_note : "";
    said.textContent = `${outOf(value(), most)} · ${word}`;
    moved.setAttribute("aria-valuetext", said.textContent);
    if (low.textContent !== note) low.textContent = note; // said once
    again();
  };
  moved.addEventListener("input", tell);
  tell();
  return el("section", {}, el("h3", {}, el("label", { for: "mood" }, texts.question)), moved, said, low, save);
}

/** The lines of help with a sentence before them. */
function helpWith(text) {
  return [el("p", {}, t(text)), el("div", { class: "checkins-lines" }, lines())];
}

const lines = () => [...document.getElementById("help-bar").cloneNode(true).childNodes];
const helpPlace = (...nodes) => el("div", { class: "checkins-help", role: "alert", lang: words.language, dir: words.dir }, ...nodes);
const tellsOfHarm = (item, points) => item.asks_about_self_harm && points > words.checkins.help.item_above;

/** All questions on one page, in the page's language only where its published wording is known. `begun`: answers that were given before. */
function questionnaire(instrument, begun = []) {
  const { items, texts, wordings } = instrument;
  const own = wordings[words.language];
  const wording = own ?? wordings.en;
  const tongue = own ? {} : { lang: "en", dir: "ltr" };
  const questions = items.flatMap((item, n) => question(instrument, n, wording, tongue, begun[n]));
  const finish = (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const left = items.flatMap((item, n) => (given.has(item.id) ? [] : [n]));
    if (left.length) stillToAnswer(form, left);
    else result(instrument, items.map((item) => Number(given.get(item.id))));
  };
  const form = el(
    "form",
    { autocomplete: "off", novalidate: true, onsubmit: finish, onchange: answered },
    questions,
    el("div", { class: "row" }, el("button", { class: "primary", id: "checkins-done" }, t("done")), toList()),
  );
  show(
    el("h3", {}, texts.title),
    asksOften(instrument) ? el("p", { class: "small checkins-often" }, t("checkins_often")) : null,
    own ? null : el("p", { class: "small checkins-english" }, t("checkins_english")),
    items.some((item) => item.asks_about_self_harm) ? el("p", {}, t("checkins_before")) : null,
    el("p", { class: "checkins-prompt", ...tongue }, wording.prompt),
    form,
    origin(instrument),
  );
}

/** One question; after one about self-harm there is a place for help, which stays once it was needed. */
function question({ items, scoring }, n, wording, tongue, begun) {
  const name = items[n].id;
  const answers = scoring.points.map((points, at) => {
    const choice = el("input", { type: "radio", name, value: points, required: true, checked: points === begun });
    return el("label", { class: "check" }, choice, el("span", {}, wording.answers[at]));
  });
  const asked = el("fieldset", { id: name, ...tongue }, el("legend", {}, `${n + 1}. ${wording.items[n]}`), answers);
  if (!items[n].asks_about_self_harm) return [asked];
  const help = helpPlace();
  asked.addEventListener("change", (event) => {
    if (help.hasChildNodes() || !tellsOfHarm(items[n], Number(event.target.value))) return;
    help.append(...helpWith(words.checkins.help.text));
    help.scrollIntoView({ block: "nearest" });
  });
  return [asked, help];
}

/** Say before the first question without an answer which ones have none, and lead there. */
function stillToAnswer(form, left) {
  form.querySelector(".checkins-missing")?.remove();
  const questions = new Intl.ListFormat(words.language).format(left.map((n) => String(n + 1)));
  const said = el("p", { class: "checkins-missing", role: "alert", id: "checkins-missing" }, t("checkins_missing", { questions }));
  const asked = [...form.querySelectorAll("fieldset")];
  for (const [n, one] of asked.entries()) {
    if (left.includes(n)) one.setAttribute("aria-describedby", said.id);
    else one.removeAttribute("aria-describedby");
  }
  asked[left[0]].before(said);
  asked[left[0]].querySelector("input").focus({ preventScroll: true });
  said.scrollIntoView({ block: "center" });
}

const answered = (event) => event.target.closest("fieldset").removeAttribute("aria-describedby");

/** The sum and what its band says. Whoever may need help reads of it first. */
function result(instrument, points) {
  const { id, items, bands, scoring, texts } = instrument;
  const score = points.reduce((sum, one) => sum + one, 0);
  const band = bands.find(({ from, to }) => from <= score && score <= to);
  const harm = items.some((item, n) => tellsOfHarm(item, points[n]));
  const help = harm ? words.checkins.help.text : band.show_help ? "checkins_heavy" : null;
  const last = lastOf(id);
  const longer = score >= scoring.leads_to?.from ? named(scoring.leads_to.to) : null;
  show(
    help ? helpPlace(...helpWith(help)) : null,
    el("h3", {}, t("checkins_result")),
    el("p", {}, texts.title, ": ", el("strong", { id: "checkins-score" }, outOf(score, scoring.most))),
    el("p", { id: "checkins-reading" }, band.reading),
    last ? el("p", { id: "checkins-last" }, t("checkins_last", { date: asDate(last.date), score: last.score, most: scoring.most })) : null,
    longer ? el("p", {}, longerOne(longer, instrument, points)) : null,
    el("p", { class: "small" }, t("saved_here_only")),
    saving(id, () => score)[0],
    el("p", {}, toList()),
    origin(instrument),
  );
}

/** The questions that both have are answered already. */
function longerOne(longer, short, points) {
  const begun = longer.wordings.en.items.map((text) => points[short.wordings.en.items.indexOf(text)]);
  return el("button", { type: "button", id: "checkins-longer", onclick: () => questionnaire(longer, begun) }, `${t("start")}: ${longer.texts.title}`);
}

function asksOften({ id, not_sooner_than_days }) {
  const last = lastOf(id);
  return last && Date.parse(today()) - Date.parse(last.date) < not_sooner_than_days * DAY;
}

const toList = () => button("back", () => show(...list()), { class: "quiet" });

/** Titles and names are English in every language of the page. */
function origin({ source, licence }) {
  const said = `${source.title}, ${source.year}. ${licence.attribution}`;
  return el("p", { class: "small" }, around("source", "source", el("span", { lang: "en", dir: "ltr" }, said)));
}

/** Everything kept: pictures, a table of the same, the way to take it along and to delete it. */
function overTime() {
  const place = el("section", { id: "checkins-over" });
  const shown = records();
  if (!shown.length) return place;
  const note = el("p", { class: "small", role: "status" });
  const give = () => {
    download(`check-ins-${today()}.csv`, asCsv(shown), "text/csv");
    note.textContent = t("download_note");
  };
  place.append(
    el("h3", {}, t("checkins_plot")),
    el("div", { class: "checkins-plots" }, plots(shown)),
    el("details", {}, el("summary", {}, t("checkins_table")), table(shown)),
    el("div", { class: "row" }, button("checkins_export", give, { id: "checkins-export" }), button("checkins_delete", forget, { id: "checkins-delete", class: "quiet" })),
    note,
  );
  return place;
}

function forget() {
  if (!confirm(t("checkins_delete_confirm"))) return;
  kept.remove(KEPT);
  show(...list());
  announce(t("done"));
}

const asCsv = (shown) =>
  ["date,questionnaire,score,most", ...shown.map(({ date, score, kind }) => [date, kind.name, score, kind.most].join(",")), ""].join("\r\n");

function table(shown) {
  const heads = ["checkins_date", "checkins_name", "checkins_result"].map((name) => el("th", { scope: "col" }, t(name)));
  const rows = shown.toReversed().map(({ date, score, kind }) =>
    el("tr", {}, el("th", { scope: "row" }, asDate(date)), el("td", {}, kind.title), el("td", {}, outOf(score, kind.most))));
  const made = el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
  return el("div", { class: "checkins-table", role: "region", tabindex: "0", "aria-label": t("checkins_table") }, made); // it scrolls where letters are large
}

// The picture: one small plot for each kind, over the same dates; sums of different questionnaires do not share a scale.
const LEFT = 26;
const RIGHT = 300;
const TOP = 14;
const BOTTOM = 116;
const MARKS = ["M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-4,-4h8v8h-8z", "M0,-5l5,9h-10z", "M0,-6l5,6l-5,6l-5,-6z", "M0,-5l2,3h3l-2,3l1,4l-4,-2l-4,2l1,-4l-2,-3h3z"];

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.flat());
  return made;
}

function plots(shown) {
  const dates = [Date.parse(shown[0].date), Date.parse(shown.at(-1).date)];
  return kinds().flatMap((kind, at) => {
    const own = shown.filter(({ id }) => id === kind.id);
    return own.length ? [el("figure", {}, el("figcaption", {}, kind.title, " ", el("span", { class: "small" }, kind.higher)), plot(kind, own, MARKS[at % MARKS.length], dates))] : [];
  });
}

function plot({ id, title, most }, own, mark, [first, last]) {
  const across = ({ date }) => (last > first ? LEFT + 8 + ((Date.parse(date) - first) / (last - first)) * (RIGHT - LEFT - 16) : (LEFT + RIGHT) / 2);
  const up = (score) => BOTTOM - (score / most) * (BOTTOM - TOP);
  const parts = most % 3 ? 2 : 3;
  const steps = Array.from({ length: parts + 1 }, (_, n) => (n * most) / parts);
  const ends = last > first ? [[first, LEFT, "start"], [last, RIGHT, "end"]] : [[first, (LEFT + RIGHT) / 2, "middle"]];
  const name = `plot-${id}`;
  const latest = own.at(-1);
  return svg(
    "svg",
    { viewBox: "0 0 320 140", role: "img", "aria-labelledby": name },
    svg("title", { id: name }, `${t("checkins_plot")}. ${title}. ${asDate(latest.date)}: ${outOf(latest.score, most)}`),
    steps.map((step) => svg("path", { class: "grid", d: `M${LEFT},${up(step)}H${RIGHT}` })),
    steps.map((step) => svg("text", { x: LEFT - 6, y: up(step) + 4, "text-anchor": "end" }, String(step))),
    ends.map(([date, x, anchor]) => svg("text", { x, y: BOTTOM + 18, "text-anchor": anchor }, `\u2068${asDate(date)}\u2069`)), // isolated: an Arabic date runs the other way
    svg("polyline", { points: own.map((record) => `${across(record)},${up(record.score)}`).join(" ") }),
    own.map((record) => svg("path", { class: "mark", d: mark, transform: `translate(${across(record)},${up(record.score)})` })),
    svg("text", { class: "latest", x: across(latest) + 8, y: up(latest.score) + 4 }, String(latest.score)),
  );
}

export function startCheckins() {
  view("checkins", () => el("div", { id: "checkins" }, ...list()));
  document.getElementById("country").addEventListener("change", () => {
    for (const place of document.querySelectorAll(".checkins-lines")) place.replaceChildren(...lines()); // the bar was changed before
  });
  addEventListener("forgotten", () => current() === "checkins" && open("checkins")); // what was written stands in the view alone
}
