// The exercises: a list, and each one opened in its place. What a person writes in one stays in the page, and on the device only if they save it.

import { announce, around, button, download, el, kept, open, savedNote, t, today, view, words } from "./core.js";
import { linesAsText } from "./help.js";

const PARTS = ["in", "hold", "out"]; // of a breath, in their order
const SECOND = 1000;

let asked = ""; // the exercise that the view shows when it is opened next
let written = {}; // by exercise and field, until the page is closed

const skill = (id) => words.skills.find((one) => one.id === id);
const lasts = ({ minutes }) => el("p", { class: "small" }, t("minutes", { minutes }));

function skills() {
  const place = el("div", { id: "skills" });
  const wanted = skill(asked);
  asked = "";
  place.append(...(wanted ? exercise(wanted) : list()));
  return place;
}

/** Put other nodes into the open view, and the focus on one of them. */
function show(nodes, focused) {
  const place = document.getElementById("skills");
  place.replaceChildren(...nodes);
  goTo(place.querySelector(focused));
}

function goTo(node) {
  bringUp(node);
  node.focus({ preventScroll: true });
}

/** Scroll a node to the top, but not under the help, which mostly stays there. */
function bringUp(node) {
  node.scrollIntoView();
  const covered = document.getElementById("help").getBoundingClientRect().bottom + 16 - node.getBoundingClientRect().top;
  if (covered > 0) scrollBy(0, -covered);
}

function list() {
  const cards = words.skills.map((one) => {
    const [title, opener] = [`skill-${one.id}`, `open-${one.id}`];
    return el(
      "li",
      {},
      el("h3", { id: title }, one.texts.title),
      lasts(one),
      el("p", {}, one.texts.why),
      keptOf(one.id) ? el("p", { class: "small" }, t("saved")) : null,
      button("skill_open", () => enter(one), { id: opener, "aria-labelledby": `${opener} ${title}` }),
    );
  });
  return [el("p", {}, t("skills_intro")), el("ul", { class: "skill-cards" }, cards), reviewed()];
}

function enter(one) {
  show(exercise(one), "h3");
  tell(one);
}

/** The focus has the title read out; this is what comes with it. */
const tell = ({ minutes }) => announce(t("minutes", { minutes }));

const toList = (one) => button("skill_list", () => show(list(), `#open-${one.id}`), { class: "quiet skill-back" });
const reviewed = () => el("p", { class: "small" }, t("not_reviewed"));

function exercise(one) {
  const { title, why, limit, after } = one.texts;
  const end = el("section", { class: "skill-end" }, el("h4", { tabindex: "-1" }, t("skill_after")), el("p", {}, after));
  const kinds = { steps: stepByStep, breathing, form };
  return [
    toList(one),
    el("h3", { tabindex: "-1" }, title),
    lasts(one),
    el("p", {}, why),
    el("div", { class: "skill-limit" }, el("h4", {}, t("skill_limit")), el("p", {}, limit)),
    ...kinds[one.kind](one, () => goTo(end.firstChild)),
    end,
    source(one.source),
    reviewed(),
    toList(one),
  ];
}

/** Titles are English in every language of the page. */
function source({ title, year }) {
  return el("p", { class: "small" }, around("source", "source", el("bdi", { lang: "en" }, `${title}, ${year}`)));
}

const steps = (one) => el("ol", {}, one.texts.steps.map((step) => el("li", {}, step)));

function stepByStep(one, finish) {
  const all = one.texts.steps;
  const number = el("p", { class: "small" });
  const step = el("p", { class: "skill-step" });
  const back = button("back", () => go(at - 1));
  const next = button("next", () => (at + 1 < all.length ? go(at + 1) : finish()), { class: "primary" });
  let at = 0;
  function go(to) {
    at = to;
    number.textContent = t("skill_step", { n: at + 1, count: all.length });
    step.textContent = all[at];
    next.textContent = t(at + 1 < all.length ? "next" : "done");
    if (at === 0 && document.activeElement === back) next.focus(); // a button that is switched off loses the focus
    back.disabled = at === 0;
  }
  go(0);
  return [
    el("div", { class: "skill-now" }, el("div", { role: "status" }, number, step), el("div", { class: "row" }, back, next)),
    el("details", { class: "skill-all" }, el("summary", {}, t("skill_all_steps")), steps(one)),
  ];
}

/** Where a breath is after so many seconds, and how full it will be one second later; nothing once all rounds are over. */
function breathAt(second, pace) {
  const length = PARTS.reduce((sum, part) => sum + pace[part], 0);
  const round = Math.floor(second / length) + 1;
  if (round > pace.rounds) return null;
  let count = (second % length) + 1;
  let at = 0;
  while (count > pace[PARTS[at]]) count -= pace[PARTS[at++]];
  const part = PARTS[at];
  const full = { in: count / pace.in, hold: 1, out: 1 - count / pace.out }[part];
  return { part, count, round, full };
}

function breathing(one) {
  const pace = one.breathing;
  const part = el("p", { role: "status", class: "breath-part" }); // read out once a part; the count is for the eyes
  const count = el("p", { class: "breath-count", "aria-hidden": "true" });
  const round = el("p", { class: "small" });
  const shape = el("div", { class: "breath" }, el("div", { class: "breath-circle" }), el("div", { class: "breath-words" }, part, count));
  const guide = el("div", { class: "skill-now skill-breath" }, shape, el("div", { class: "breath-bar" }, el("div")), round);
  const toggle = button("start", press, { class: "primary" });
  let second = 0;
  let timer = 0;
  const say = (text) => part.textContent === text || (part.textContent = text);
  function press() {
    if (timer) return pause("continue");
    bringUp(guide);
    go();
  }
  function pause(name) {
    clearTimeout(timer);
    timer = 0;
    toggle.textContent = t(name);
  }
  function go() {
    const now = breathAt(second, pace);
    if (!guide.isConnected) return; // the view was left
    if (!now) return over();
    timer = setTimeout(go, SECOND);
    second += 1;
    toggle.textContent = t("pause");
    say(t(`breathe_${now.part}`));
    count.textContent = now.count;
    round.textContent = t("breathe_round", { n: now.round, count: pace.rounds });
    guide.style.setProperty("--full", now.full);
  }
  function over() {
    second = 0;
    pause("start");
    say(t("done"));
    count.textContent = "";
  }
  const plan = PARTS.filter((name) => pace[name]).map((name) => `${t(`breathe_${name}`)}: ${t("seconds", { seconds: pace[name] })}`);
  round.textContent = plan.join(" · ");
  guide.append(toggle);
  return [guide, el("h4", {}, t("skill_all_steps")), steps(one)];
}

const keptOf = (id) => kept.get("skills")?.[id];

function form(one) {
  const values = (written[one.id] ??= { ...keptOf(one.id) });
  const note = el("p", { class: "small", role: "status" });
  const boxes = one.form.fields.map((field) => box(field, values, note));
  const fields = one.form.fields.map(({ id }, index) =>
    el(
      "li",
      { class: "field" },
      el("label", { for: `write-${id}` }, one.texts.fields[id]),
      el("p", { id: `step-${id}` }, one.texts.steps[index]),
      boxes[index],
      el("div", { class: "skill-written", dir: "auto", "aria-hidden": "true" }),
    ),
  );
  function save() {
    one.form.fields.forEach(({ id }, index) => (values[id] = boxes[index].value));
    note.textContent = savedNote(kept.set("skills", { ...kept.get("skills"), [one.id]: values }));
  }
  function give() {
    download(`theragen-${one.id}-${today()}.txt`, asText(one, boxes));
    note.textContent = t("download_note");
  }
  function remove() {
    if (!confirm(t("skill_delete_confirm"))) return;
    drop(one.id);
    for (const id of Object.keys(values)) delete values[id];
    for (const emptied of boxes) emptied.value = prefilled(emptied);
    note.textContent = t("skill_deleted");
  }
  return [
    el("p", { class: "small skill-screen" }, t("saved_here_only")),
    el("ol", { class: "skill-form", "data-skill": one.id }, fields),
    el(
      "div",
      { class: "row" },
      button("keep_here", save, { class: "primary" }),
      button("print", () => print()),
      button("save_text", give),
      button("skill_delete", remove, { class: "quiet" }),
    ),
    note,
  ];
}

function box({ id, rows, prefill }, values, note) {
  const made = el("textarea", {
    id: `write-${id}`,
    rows,
    dir: "auto", // as the words in it, not as the page
    autocomplete: "off",
    "aria-describedby": `step-${id}`,
    "data-prefill": prefill ?? null,
    oninput: () => {
      values[id] = made.value;
      note.textContent = "";
    },
  });
  made.style.setProperty("--rows", rows); // where a box can grow with its words, it would shrink without them
  made.value = values[id] ?? prefilled(made);
  return made;
}

const prefilled = ({ dataset }) => (dataset.prefill === "helplines" ? linesAsText() : "");

function asText({ form: { fields }, texts }, boxes) {
  const rows = fields.map(({ id }, index) => `${texts.fields[id]}\n${boxes[index].value.trim()}`);
  return [`${texts.title}, ${today()}`, ...rows, texts.limit, texts.after].join("\n\n");
}

/** Take one exercise out of what is kept. */
function drop(id) {
  const { [id]: _, ...rest } = kept.get("skills") ?? {};
  if (Object.keys(rest).length) kept.set("skills", rest);
  else kept.remove("skills");
}

const boxesShown = () => document.querySelectorAll("#skills textarea");

/** The lines of another country, where nobody has changed or saved those of the first. */
function refill() {
  for (const shown of boxesShown()) {
    const mine = written[shown.closest("[data-skill]").dataset.skill]?.[shown.id.replace("write-", "")];
    if (shown.dataset.prefill && mine === undefined) shown.value = prefilled(shown);
  }
}

/** Open one exercise, from anywhere on the page. */
export function openSkill(id) {
  asked = id;
  open("skills");
  if (!skill(id)) return;
  goTo(document.querySelector("#skills h3"));
  tell(skill(id));
}

export function startSkills() {
  view("skills", skills);
  addEventListener("skill", (event) => openSkill(event.detail));
  addEventListener("forgotten", () => {
    written = {};
  });
  document.getElementById("country").addEventListener("change", refill);
  // A box shows on paper only the lines that fit it: what was written is printed beside it instead.
  addEventListener("beforeprint", () => {
    for (const shown of boxesShown()) shown.nextElementSibling.textContent = shown.value;
  });
}
