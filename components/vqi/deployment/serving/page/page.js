"use strict";
// No text of a request or an answer ever becomes markup: every element is made here, and text is set as text.

const $ = (id) => document.getElementById(id);
const RECENT = 100;
let token = sessionStorage.getItem("vqi-token") || "";
let newest = 0;
let decisions = [];

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function complain(sentence) {
  $("problem").textContent = sentence;
  $("problem").hidden = !sentence;
}

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (response.status === 401) $("token-form").hidden = false;
  return response;
}

async function askJson(path, options) {
  const response = await ask(path, options);
  const answer = await response.json().catch(() => ({ error: `Status ${response.status}.` }));
  // Where no photograph could be read, each says why by itself.
  if (!response.ok && !answer.predictions) throw new Error(answer.error || `Status ${response.status}.`);
  return answer;
}

async function pictureOf(path) {
  const response = await ask(path);
  return response.ok ? URL.createObjectURL(await response.blob()) : null;
}

// Where a score stands: the threshold lies in the middle.
function scoreBar(score, threshold, decision) {
  const height = Math.abs(threshold) || 1;
  const share = Math.min(1, Math.max(0, 0.5 + (score - threshold) / (2 * height)));
  const fill = make("div");
  fill.style.width = `${100 * share}%`;
  const bar = make("div", { class: `bar ${decision}`, role: "img" }, fill);
  bar.setAttribute("aria-label", `score ${score.toPrecision(4)}, threshold ${threshold.toPrecision(4)}`);
  return bar;
}

function verdict(decision) {
  const sign = { good: "✓ ", defect: "✗ " }[decision] || "? ";
  return make("span", { class: `verdict ${decision}` }, sign + decision);
}

function showResult(prediction) {
  const figure = make("figure");
  if (prediction.picture) {
    const image = make("img", { alt: `${prediction.image} with what was found` });
    image.src = `data:image/jpeg;base64,${prediction.picture}`;
    figure.append(image);
  }
  const caption = make("figcaption");
  if (prediction.error) caption.append(verdict("unreadable"), make("p", {}, prediction.error));
  else {
    caption.append(
      make("p", {}, verdict(prediction.decision), ` ${prediction.image}`),
      scoreBar(prediction.score, prediction.threshold, prediction.decision),
      make("p", { class: "soft small" },
        `Score ${prediction.score.toPrecision(4)}, threshold ${prediction.threshold.toPrecision(4)} (the line); ` +
        `${prediction.boxes.length} marked ${prediction.boxes.length === 1 ? "region" : "regions"}`),
    );
    if (prediction.implausible) caption.append(make("p", { class: "small" }, prediction.implausible));
  }
  figure.append(caption);
  $("results").prepend(figure);
  while ($("results").children.length > 12) $("results").lastChild.remove();
}

async function decide(files) {
  complain("");
  for (const file of files) {
    const form = new FormData();
    form.append("files", file, file.name || "camera.png");
    try {
      const address = `predict?picture=true&model=${encodeURIComponent($("model").value)}`;
      const answer = await askJson(address, { method: "POST", body: form });
      answer.predictions.forEach(showResult);
    } catch (error) {
      complain(`${file.name || "The picture"}: ${error.message}`);
    }
  }
  refresh();
}

function setUpDropping() {
  const drop = $("drop");
  drop.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); $("file").click(); }
  });
  $("file").addEventListener("change", () => { decide([...$("file").files]); $("file").value = ""; });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => { event.preventDefault(); decide([...event.dataTransfer.files]); });
}

function setUpCamera() {
  const video = $("video");
  $("camera-button").addEventListener("click", async () => {
    if (video.srcObject) {
      video.srcObject.getTracks().forEach((track) => track.stop());
      video.srcObject = null;
      $("camera").hidden = true;
      $("camera-button").textContent = "Use the camera";
      return;
    }
    try {
      if (!navigator.mediaDevices) throw new Error("browsers give it to https addresses and localhost alone");
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      $("camera").hidden = false;
      $("camera-button").textContent = "Stop the camera";
    } catch (error) {
      complain(`The camera cannot be used: ${error.message}.`);
    }
  });
  $("shoot").addEventListener("click", () => {
    const canvas = make("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => decide([new File([blob], "camera.png", { type: "image/png" })]), "image/png");
  });
}

async function mark(entry, value) {
  try {
    const note = document.querySelector(`#decision-${entry.id} input`)?.value ?? entry.note;
    const answer = await askJson(`decisions/${entry.id}/mark`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ mark: value, note }),
    });
    Object.assign(entry, { mark: answer.mark, note: answer.note });
    complain("");
    showMark(entry);
  } catch (error) {
    complain(error.message);
  }
}

function showMark(entry) {
  for (const value of ["right", "wrong"]) {
    document.querySelector(`#decision-${entry.id} .${value}`)?.setAttribute("aria-pressed", String(entry.mark === value));
  }
}

function decisionRow(entry) {
  const time = new Date(1000 * entry.at);
  const holder = make("div", { class: "picture" });
  if (entry.picture) {
    pictureOf(`decisions/${entry.id}/picture?side=192`).then((address) => {
      if (address) holder.append(make("img", { src: address, alt: "", onclick: () => enlarge(entry) }));
    });
  }
  const details = make("div", {},
    make("div", { class: "row" }, verdict(entry.decision),
      make("span", { class: "soft small" }, `${time.toLocaleTimeString()} · ${entry.model}` +
        (entry.score === null ? "" : ` · score ${entry.score.toPrecision(4)}`))),
    make("div", { class: "name" }, entry.image));
  if (entry.reason) details.append(make("div", { class: "small" }, entry.reason));
  if (entry.decision === "good" || entry.decision === "defect") {
    details.append(make("div", { class: "row" },
      make("button", { class: "right", "aria-pressed": "false", onclick: () => mark(entry, entry.mark === "right" ? null : "right") }, "Right"),
      make("button", { class: "wrong", "aria-pressed": "false", onclick: () => mark(entry, entry.mark === "wrong" ? null : "wrong") }, "Wrong"),
      make("input", { placeholder: "note", "aria-label": "note", maxlength: "2000", value: entry.note, onchange: () => mark(entry, entry.mark) })));
  }
  const row = make("li", { id: `decision-${entry.id}`, tabindex: "-1" }, holder, details);
  row.addEventListener("keydown", (event) => onKey(event, entry, row));
  return row;
}

function onKey(event, entry, row) {
  if (event.target.tagName === "INPUT") {
    if (event.key === "Escape" || event.key === "Enter") row.focus();
    return;
  }
  const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
  if (next) { event.preventDefault(); moveTo(next); }
  else if (event.key === "r") mark(entry, "right");
  else if (event.key === "w") mark(entry, "wrong");
  else if (event.key === "u") mark(entry, null);
  else if (event.key === "n") { event.preventDefault(); row.querySelector("input")?.focus(); }
}

function moveTo(row) {
  document.querySelector('#decisions li[tabindex="0"]')?.setAttribute("tabindex", "-1");
  row.setAttribute("tabindex", "0");
  row.focus();
}

async function enlarge(entry) {
  const address = await pictureOf(`decisions/${entry.id}/picture?side=1024`);
  if (!address) return;
  const dialog = make("dialog", {}, make("img", { src: address, alt: `${entry.image} with what was found` }));
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { URL.revokeObjectURL(address); dialog.remove(); });
  document.body.append(dialog);
  dialog.showModal();
}

function showNow() {
  const since = Date.now() / 1000 - 600;
  const lately = decisions.filter((entry) => entry.at > since);
  const full = lately.length === decisions.length && decisions.length === RECENT;
  const minutes = full ? Math.max((Date.now() / 1000 - lately[lately.length - 1].at) / 60, 1 / 60) : 10;
  $("rate").textContent = (lately.length / minutes).toPrecision(2);
  const times = decisions.filter((entry) => entry.score !== null).map((entry) => 1000 * entry.seconds).sort((a, b) => a - b);
  $("latency").textContent = times.length ? times[Math.floor(times.length / 2)].toPrecision(3) : "–";
  const judged = decisions.filter((entry) => entry.decision === "good" || entry.decision === "defect");
  const defects = judged.filter((entry) => entry.decision === "defect").length;
  $("share").textContent = judged.length ? `${Math.round((100 * defects) / judged.length)} %` : "–";
}

function svg(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

function showHours(rows) {
  const hours = [...Array(24).keys()].map((index) => 3600 * (Math.floor(Date.now() / 3600000) - 23 + index));
  const count = (hour, kinds) => rows.filter((row) => row.hour === hour && kinds.includes(row.decision)).reduce((sum, row) => sum + row.number, 0);
  const most = Math.max(1, ...hours.map((hour) => count(hour, ["good", "defect", "implausible", "unreadable"])));
  const chart = svg("svg", { viewBox: "0 0 480 110", preserveAspectRatio: "none", role: "img" });
  chart.setAttribute("aria-label", "Decisions of the last 24 hours by hour");
  hours.forEach((hour, index) => {
    let bottom = 90;
    for (const [kinds, colour] of [[["good"], "#7fb2d0"], [["defect"], "#d9905a"], [["implausible", "unreadable"], "#8892a0"]]) {
      const number = count(hour, kinds);
      const height = (80 * number) / most;
      if (number) {
        const bar = svg("rect", { x: 20 * index + 2, y: bottom - height, width: 16, height, fill: colour });
        bar.append(svg("title", {}, `${new Date(1000 * hour).getHours()} h: ${number} ${kinds.join(", ")}`));
        chart.append(bar);
      }
      bottom -= height;
    }
  });
  const caption = make("p", { class: "soft small" },
    `24 hours up to now; the highest hour has ${most}. Below: good, above it defects (orange), then what was not judged (grey).`);
  $("hours").replaceChildren(chart, caption);
}

async function refresh() {
  try {
    const entries = await askJson(`decisions?limit=${RECENT}&after=${newest}`);
    if (entries.length) {
      newest = entries[0].id;
      decisions = [...entries, ...decisions].slice(0, RECENT);
      for (const entry of [...entries].reverse()) {
        $("decisions").prepend(decisionRow(entry));
        showMark(entry);
      }
      while ($("decisions").children.length > RECENT) {
        $("decisions").lastChild.querySelectorAll("img").forEach((image) => URL.revokeObjectURL(image.src));
        $("decisions").lastChild.remove();
      }
      if (!document.querySelector('#decisions li[tabindex="0"]')) $("decisions").firstChild.setAttribute("tabindex", "0");
    }
    showNow();
    showHours(await askJson("decisions/hours"));
    if ($("problem").textContent === "The server does not answer.") complain("");
  } catch (error) {
    complain(error.message);
  }
}

async function start() {
  try {
    const { models } = await askJson("v2/models");
    $("model").replaceChildren(...models.map((name) => make("option", {}, name)));
    const described = await Promise.all(models.map((name) => askJson(`v2/models/${encodeURIComponent(name)}`)));
    $("served").textContent = described
      .map((one) => `${one.name}: ${one.parameters.method} by ${one.parameters.backend}, version ${one.versions[0]}`)
      .join(" · ");
    $("token-form").hidden = true;
    complain("");
    await refresh();
  } catch (error) {
    complain(error.message);
  }
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("vqi-token", token);
  start();
});
// A download carries no header, so the table is fetched and handed over.
$("marked").addEventListener("click", async (event) => {
  event.preventDefault();
  const address = await pictureOf("decisions/marked.csv");
  if (address) make("a", { href: address, download: "marked.csv" }).click();
});
document.addEventListener("keydown", (event) => {
  if (event.key === " " && !$("camera").hidden && event.target === document.body) { event.preventDefault(); $("shoot").click(); }
});
setUpDropping();
setUpCamera();
start();
setInterval(() => { if (!document.hidden) refresh(); }, 3000);
