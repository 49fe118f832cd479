// Puts the page's parts together. Two workers: the float64 reference answers keys also while the other measures or trains.

import { Client } from "./client.js";
import { Device } from "./device.js";
import { startGates } from "./gates.js";
import { startMeasure } from "./measure.js";
import { startTrain } from "./train.js";

function trouble(text) {
  const reload = element("button", { type: "button", textContent: "Reload the page" });
  reload.addEventListener("click", () => location.reload());
  document.getElementById("trouble").append(element("p", {}, text, reload));
}

// ?cases=N and ?steps=N; null where there is none.
function limit(name) {
  const text = new URLSearchParams(location.search).get(name);
  if (text === null) return null;
  if (/^[1-9][0-9]*$/.test(text)) return Number(text);
  document.getElementById("trouble").append(element("p", { textContent: `?${name}=${text}: expected a number from 1 on, it is left out.` }));
  return null;
}

const died = (reason) => `The worker that computes has stopped: ${reason}.`;
const device = new Device(new Client((reason) => {
  device.die(died(reason));
  trouble(`${died(reason)} Measuring and training cannot go on.`);
}));
const reader = new Client((reason) => trouble(`${died(reason)} The gates cannot be shown.`));

const gates = startGates(reader);
startMeasure(device, limit("cases"));
startTrain(device, limit("steps"), gates.use);
device.open();
