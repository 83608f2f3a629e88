// The help that is always on screen: the lines of a country, which the browser guesses by itself, and the way out.

import { t, words, worded } from "./core.js";

const ANYWHERE = "ZZ";
const MUCH = 0.4; // of the screen
const TWICE = 700; // milliseconds between two presses of the key

export const country = () => document.getElementById("country").value;

function showBar() {
  const bar = words.bars[country()] ?? words.bars[ANYWHERE];
  if (bar) document.getElementById("help-bar").innerHTML = bar; // our own, made by helplines.py from data
}

/** The lines of the chosen country as text, for what a person writes down. */
export const linesAsText = () =>
  [...document.querySelectorAll("#help-bar li")].map((line) => line.textContent.trim().replace(/[+\d][\d\s()-]+\d/g, "\u2066$&\u2069")).join("\n"); // numbers read from the left

/** Leave at once: nothing of the talk stays on the screen, and the entry in the history that is shown now becomes the other page's. */
export function leave(event) {
  event.preventDefault();
  const { href } = document.getElementById("exit"); // what somebody who looks over a shoulder sees next
  document.body.replaceChildren();
  document.title = "";
  try {
    window.top.location.replace(href); // not only the frame that a Space is shown in
  } catch {
    window.open(href, "_blank", "noopener");
    location.replace(href);
  }
}

export function startHelp() {
  const select = document.getElementById("country");
  let chosen = false;
  let pressed = -Infinity;
  select.addEventListener("change", () => {
    chosen = true;
    showBar();
  });
  document.getElementById("exit").addEventListener("click", leave);
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.repeat) return;
    if (event.timeStamp - pressed < TWICE) leave(event);
    pressed = event.timeStamp;
  });
  // What gets the focus must not be hidden under the help; where the help takes much of the screen, it scrolls along.
  const help = document.getElementById("help");
  new ResizeObserver(() => {
    const much = help.offsetHeight > MUCH * innerHeight;
    help.classList.toggle("scrolls", much);
    document.documentElement.style.scrollPaddingTop = much ? "" : `${help.offsetHeight}px`;
  }).observe(help);
  // Shown from memory after Back, it would show what was wiped.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  worded(() => {
    const guess = words.zones[Intl.DateTimeFormat().resolvedOptions().timeZone];
    const names = new Intl.DisplayNames([words.language], { type: "region" });
    for (const option of select.options) option.textContent = option.value === ANYWHERE ? t("another_country") : names.of(option.value);
    const guessed = !chosen && guess && select.querySelector(`option[value="${guess}"]`);
    const value = guessed ? guess : select.value;
    const [first, ...rest] = select.options;
    select.append(first, ...rest.sort((one, other) => one.text.localeCompare(other.text, words.language)));
    select.value = value; // which moving its option unchose
    document.querySelector("#country-label span").textContent = t("help_lines_for");
    document.getElementById("help").setAttribute("aria-label", t("help_title"));
    const exit = document.getElementById("exit");
    exit.textContent = t("quick_exit");
    exit.title = t("quick_exit_explain", { key: "Esc" });
    showBar();
  });
}
