// The page's own part, in the order in which a person needs it. If any of it fails, the help in the document stays.

import { startChat } from "./chat.js";
import { startCheckins } from "./checkins.js";
import { mendConnections } from "./connection.js";
import { open, speak, t, worded } from "./core.js";
import { startHelp } from "./help.js";
import { startHuman } from "./human.js";
import { startNotice } from "./notice.js";
import { chosenLanguage, startSettings } from "./settings.js";
import { startSkills } from "./skills.js";
import { startVoice } from "./voice.js";

mendConnections();
startHelp();
startChat();
for (let wait = 1000; ; wait = Math.min(2 * wait, 30_000)) {
  try {
    await speak(chosenLanguage());
    break;
  } catch {
    await new Promise((done) => setTimeout(done, wait));
  }
}
for (const shut of document.querySelectorAll("gradio-app, #views")) shut.inert = false; // as they are in the document: a press would be lost
startNotice();
startSettings();
startSkills();
startCheckins();
startHuman();
startVoice();
worded(() => {
  for (const opener of document.querySelectorAll("#views [data-view]")) opener.textContent = t(`${opener.dataset.view}_title`);
});
document.getElementById("views").addEventListener("click", (event) => {
  if (event.target.dataset.view) open(event.target.dataset.view);
});
