// Speaking instead of writing, and replies read aloud. What was spoken goes into the message box, where it is read before it is sent.

import { write } from "./chat.js";
import { announce, button, current, el, t, words, worded } from "./core.js";

const Recognition = window.SpeechRecognition ?? window.webkitSpeechRecognition;
const FAULTS = { "not-allowed": "voice_refused", "service-not-allowed": "voice_refused", "no-speech": "voice_nothing", aborted: "" };
const RATE = 16_000; // samples a second, as the server's model hears
const MOST = 30; // seconds it hears at once
const MOST_WAIT = 60_000; // milliseconds

const told = new Set(); // what was said about privacy, until the page is closed
let listening = null; // how what listens is ended: `stop` keeps what was said, `abort` drops it
let reading = null; // what is being read; a browser forgets to say that it ended where nobody holds on to it

/** Whether the server of this page turns sound into words (voice.py), so that the browser's maker hears nothing. */
const here = () => document.getElementById("banner").dataset.whisper === "1" && Boolean(navigator.mediaDevices && window.MediaRecorder);

/** The language of the page, in the person's own kind of it: "en-GB". */
const locale = () => navigator.languages.find((tag) => tag.split("-")[0] === words.language) ?? words.language;

/** Say something beside the buttons, or nothing. */
function note(text = "", ...acts) {
  if (!document.getElementById("voice-note")) document.getElementById("acts")?.after(el("div", { id: "voice-note" }));
  const place = document.getElementById("voice-note");
  const shown = [el("p", {}, text), acts.length ? el("div", { class: "row" }, acts) : null].filter(Boolean);
  place?.replaceChildren(...(text ? shown : []));
  if (!text) return;
  place?.scrollIntoView({ block: "nearest" });
  announce(text);
}

/** Before the first time, say who gets to hear or read it, and go on only if the person wants to. */
function first(name, opener, then) {
  if (told.has(name)) return then();
  const answer = (yes) => {
    note();
    document.getElementById(opener).focus();
    if (!yes) return;
    told.add(name);
    then();
  };
  note(t(name), button("continue", () => answer(true)), button("cancel", () => answer(false)));
}

function show(name, text) {
  const made = document.getElementById(name);
  if (!made) return;
  made.dataset.said = text; // the name it keeps when the page's words are put on anew
  made.textContent = t(text);
}

function listens(session) {
  listening = session;
  show("speak", "voice_stop");
  note(t("voice_listening"));
}

function heard(text) {
  const { value } = document.querySelector("#message textarea");
  const focused = document.activeElement;
  const gap = !value || /\s$/.test(value) || words.language === "zh" ? "" : " ";
  write(value + gap + text.trim());
  focused.focus(); // whoever works by keys finds the button where it was
}

async function recognise() {
  const recognition = new Recognition();
  const session = { stop: () => recognition.stop(), abort: () => recognition.abort() };
  let fault = "";
  recognition.lang = locale();
  recognition.continuous = !/Android/.test(navigator.userAgent); // there it would say everything twice
  recognition.onresult = ({ resultIndex, results }) => {
    if (listening !== session) return;
    for (const result of [...results].slice(resultIndex)) if (result.isFinal) heard(result[0].transcript);
  };
  recognition.onerror = ({ error }) => (fault = FAULTS[error] ?? (navigator.onLine ? "voice_unavailable" : "offline"));
  recognition.onend = () => {
    if (listening !== session) return;
    rest();
    note(fault && t(fault));
  };
  listens(session);
  recognition.processLocally = await onDevice(recognition.lang);
  if (listening === session) recognition.start();
}

/** Whether the browser turns this language into words by itself, sending nothing to anybody. */
async function onDevice(language) {
  try {
    return (await Recognition.available({ langs: [language], processLocally: true })) === "available";
  } catch {
    return false; // most can't say
  }
}

async function record() {
  const session = (listening = { stop() {}, abort() {} });
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch ({ name }) {
    rest();
    return note(t(name === "NotAllowedError" ? "voice_refused" : "voice_unavailable"));
  }
  const recorder = new MediaRecorder(stream);
  const parts = [];
  const end = () => recorder.state === "inactive" || recorder.stop();
  const timer = setTimeout(end, MOST * 1000);
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    clearTimeout(timer);
    for (const track of stream.getTracks()) track.stop();
    if (listening === session) turn(new Blob(parts), session);
  };
  recorder.start();
  Object.assign(session, { stop: end, abort: end });
  if (listening === session) listens(session);
  else end();
}

/** Have the server turn sound into words; they are dropped if the person has gone elsewhere meanwhile. */
async function turn(sound, session) {
  session.stop = session.abort = () => {};
  show("speak", "speak");
  note(t("voice_turning"));
  let problem = "";
  try {
    const asked = { method: "POST", body: await samples(sound), signal: AbortSignal.timeout(MOST_WAIT) };
    const answer = await fetch(`transcribe?language=${words.language}`, asked);
    const { text } = answer.ok ? await answer.json() : {};
    if (listening !== session) return;
    if (text) heard(text);
    else if (answer.ok) problem = "voice_nothing";
    else problem = [429, 503].includes(answer.status) ? "busy" : "voice_failed";
  } catch {
    problem = navigator.onLine ? "voice_failed" : "offline";
  }
  if (listening !== session) return;
  rest();
  note(problem && t(problem));
}

/** A recording as 16-bit samples. */
async function samples(sound) {
  const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await sound.arrayBuffer()); // which resamples
  return Int16Array.from(decoded.getChannelData(0).subarray(0, MOST * RATE), (value) => Math.max(-32768, Math.min(32767, value * 32768)));
}

function rest() {
  listening = null;
  show("speak", "speak");
}

function speakOrStop() {
  if (listening) listening.stop();
  else if (here()) first("voice_privacy_here", "speak", record);
  else first("voice_privacy", "speak", recognise);
}

/** The last reply as it can be heard: of one that is folded up, only what it speaks of. */
function lastReply() {
  const shown = [...document.querySelectorAll("#chat .bot .message-content")].at(-1)?.cloneNode(true);
  if (!shown) return "";
  for (const folded of shown.querySelectorAll("details:not([open])")) folded.replaceChildren(...folded.querySelectorAll("summary"));
  for (const block of shown.querySelectorAll("p, li, summary, br")) block.append("\n");
  return shown.textContent;
}

function readOrStop() {
  if (reading) return hush();
  const voices = speechSynthesis.getVoices().filter(({ lang }) => lang.split(/[-_]/)[0] === words.language);
  const voice = voices.find(({ lang, localService }) => localService && lang === locale()) ?? voices.find(({ localService }) => localService);
  if (voice) read(voice);
  else first("read_privacy", "read_aloud", read); // the browser's own choice, which may be a voice of its maker's servers
}

function read(voice) {
  const sentences = lastReply().match(/[^.!?…。！？।؟\n]*[^\s.!?…。！？।؟][^.!?…。！？।؟\n]*[.!?…。！？।؟]*/g);
  if (!sentences) return;
  speechSynthesis.cancel();
  // Sentence by sentence: some browsers fall silent in the middle of a long one.
  const spoken = sentences.map((sentence) => Object.assign(new SpeechSynthesisUtterance(sentence.trim()), { lang: voice?.lang ?? locale(), voice: voice ?? null }));
  const fail = () => reading === spoken && (hush(), note(t("voice_unavailable")));
  for (const one of spoken) one.onerror = fail;
  spoken.at(-1).onend = () => reading === spoken && hush();
  reading = spoken;
  show("read_aloud", "read_stop");
  for (const one of spoken) speechSynthesis.speak(one);
}

function hush() {
  reading = null; // first, since what is cut off reports a fault
  window.speechSynthesis?.cancel();
  show("read_aloud", "read_aloud");
}

/** End whatever listens or speaks: the person has turned to something else. */
function quiet() {
  const was = listening;
  if (was) rest(); // first, so that what was half said is dropped
  was?.abort();
  if (reading) hush();
  if (document.getElementById("voice-note")) note();
}

export function startVoice() {
  document.body.toggleAttribute("data-no-speak", !Recognition && !here());
  document.body.toggleAttribute("data-no-read", !window.speechSynthesis);
  window.speechSynthesis?.getVoices(); // some browsers begin to look for them when they are asked
  document.addEventListener("click", ({ target }) => {
    const pressed = target.closest?.("#speak, #read_aloud, #clear")?.id;
    if (pressed === "speak") speakOrStop();
    if (pressed === "read_aloud") readOrStop();
    if (pressed === "clear") quiet();
  });
  // A view was opened, or the page was left.
  new MutationObserver(() => (current() || !document.getElementById("view")) && quiet()).observe(document.body, { childList: true, attributeFilter: ["data-view"] });
  addEventListener("pagehide", quiet);
  addEventListener("forgotten", quiet);
  worded(quiet); // what listens does so in the former language
}
