// How a person wants to be answered: sent with each message, kept here only if they want it.

import { button, el, kept, speak, t, view, words } from "./core.js";

const NONE = { language: "", pace: "", style: "", name: "", context: "", theme: "", size: "100" };
const SIZES = ["100", "115", "130", "150"];

let chosen = { ...NONE, ...kept.get("choices") };

export const choices = () => ({ ...chosen, language: words.language });
export const chosenLanguage = () => chosen.language || document.documentElement.lang || "en";

function choose(name, value) {
  chosen = { ...chosen, [name]: value };
  if (kept.get("choices")) kept.set("choices", chosen);
}

function look() {
  if (chosen.theme) document.body.classList.toggle("dark", chosen.theme === "dark");
  document.documentElement.style.fontSize = chosen.size === "100" ? "" : `${chosen.size}%`;
}

function pick(name, options) {
  const group = options.map(([value, label]) => {
    const radio = el("input", { type: "radio", name, value, checked: chosen[name] === value, onchange: () => choose(name, value) });
    return el("label", { class: "check" }, radio, el("span", {}, label));
  });
  return el("fieldset", {}, el("legend", {}, t(name)), group);
}

function settings() {
  const languages = Object.entries(words.languages).map(([code, name]) =>
    el("option", { value: code, selected: code === words.language, lang: code }, name),
  );
  const language = el(
    "select",
    {
      id: "language",
      onchange: async ({ target }) => {
        try {
          await speak(target.value);
          choose("language", target.value);
          document.getElementById("language")?.focus();
        } catch {
          target.value = words.language;
          saved.textContent = t("offline");
        }
      },
    },
    languages,
  );
  const name = el("input", { id: "called", maxlength: "40", autocomplete: "off", value: chosen.name, oninput: (event) => choose("name", event.target.value) });
  const context = el("textarea", { id: "context", maxlength: "600", rows: "4", "aria-describedby": "context-hint", oninput: (event) => choose("context", event.target.value) });
  context.value = chosen.context;
  const keep = el("input", { type: "checkbox", id: "keep", checked: Boolean(kept.get("choices")), "aria-describedby": "keep-explain" });
  const saved = el("p", { class: "small", role: "status" });
  keep.addEventListener("change", () => {
    if (!keep.checked) kept.remove("choices");
    saved.textContent = keep.checked ? t(kept.set("choices", chosen) ? "saved" : "not_saved") : "";
  });
  const dark = button("theme", () => {
    choose("theme", document.body.classList.contains("dark") ? "light" : "dark");
    look();
  }, { id: "theme" });
  const size = el("select", { id: "size", onchange: (event) => { choose("size", event.target.value); look(); } },
    SIZES.map((value) => el("option", { value, selected: value === chosen.size }, `${value} %`)));
  return [
    el("p", {}, el("label", { for: "language" }, t("language")), " ", language),
    pick("pace", [["short", t("pace_short")], ["full", t("pace_full")]]),
    pick("style", [["listen", t("style_listen")], ["explore", t("style_explore")], ["practical", t("style_practical")]]),
    el("p", { class: "field" }, el("label", { for: "called" }, t("your_name")), name),
    el("p", { class: "field" }, el("label", { for: "context" }, t("your_context")), context, el("span", { id: "context-hint", class: "small" }, t("context_hint"))),
    el("p", {}, el("label", { class: "check" }, keep, el("span", {}, t("keep_here")))),
    el("p", { class: "small", id: "keep-explain" }, t("keep_here_explain")),
    saved,
    el("p", {}, el("label", { for: "size" }, t("text_size")), " ", size, " ", dark),
  ];
}

export function startSettings() {
  view("settings", settings);
  look();
  addEventListener("forgotten", () => {
    chosen = { ...NONE };
    look();
  });
}
