// The page: what is shown, what keys and buttons do, and one stroke after the other.

import * as api from "./api.js";
import { History, Stroke, connectedPixels, linePixels, polygonPixels } from "./paint.js";
import { Layer, View, photosOf } from "./view.js";

const byId = (id) => document.getElementById(id);
const VIEWS = {
  rgb: ["RGB", ["rgb"]],
  nir: ["NIR", ["nir"]],
  both: ["Both", ["rgb", "nir"]],
  blend: ["Blend", ["blend"]],
  edges: ["Edges", ["edges"]],
};
// Name, key, and an icon's path in a square of 24.
const TOOLS = {
  brush: ["Brush", "B", "M20 4 10 14M7 14c-2 0-3 2-3 5 3 0 5-1 6-3a2 2 0 0 0-3-2z"],
  eraser: ["Eraser", "E", "M9 19h11M5 14 13 6l6 6-7 7H8z"],
  polygon: ["Polygon", "P", "M5 9 12 4l8 5-3 10H8z"],
  fill: ["Fill", "F", "M11 4 5 12l7 6 7-9zM20 15c1 2 2 3 1 4s-2 0-2-1 1-2 1-3"],
  superpixel: ["Regions", "S", "M4 4h7v6H4zM11 4h9v9h-9M4 10v10h8v-7M12 20h8v-7"],
  hand: ["Move", "H", "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3"],
};
const ACTIONS = {
  undo: ["Undo", "Ctrl Z", "M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10h-3"],
  redo: ["Redo", "Ctrl Y", "m16 5 4 4-4 4m4-4H10a5 5 0 0 0 0 10h3"],
  mirror: ["Mirror", "M", "M12 3v18M9 7v10L3 17zM15 7v10l6 0z"],
};
const KEYS = {
  b: () => chooseTool("brush"),
  e: () => chooseTool("eraser"),
  p: () => chooseTool("polygon"),
  f: () => chooseTool("fill"),
  s: () => chooseTool("superpixel"),
  h: () => chooseTool("hand"),
  v: () => chooseView(1),
  m: () => doIt.mirror(),
  l: () => toggleLock(page.class),
  o: () => hideMask(),
  g: () => doIt.suggestion(),
  u: () => doIt.uncertainty(),
  a: () => doIt.accept(),
  d: () => doIt.done(),
  n: () => doIt.next(),
  t: () => doIt.train(),
  i: () => pickClass(),
  "[": () => setSize(page.size - 1),
  "]": () => setSize(page.size + 1),
  ",": () => chooseClass(page.class - 1),
  ".": () => chooseClass(page.class + 1),
  "+": () => view.zoom(1.25),
  "=": () => view.zoom(1.25),
  "-": () => view.zoom(0.8),
  "?": () => doIt.help(),
  PageDown: () => step(1),
  PageUp: () => step(-1),
  Home: () => view.fit(),
  Enter: () => closePolygon(),
  Backspace: () => page.polygon.pop() && showMarks(),
  Delete: () => clearAll(),
  Escape: () => ((page.polygon = []), showMarks()),
};
const HELP = {
  "0 … 9, Shift 0 … 9": "class; , and . the one before and after; I the one under the cursor",
  "B E P F S H": "brush, eraser, polygon, fill, regions, move",
  "[ ]": "size of brush, eraser and regions",
  "Arrows, Space": "move the cursor (Shift: 8 pixels), paint at it",
  "Enter, Backspace, Esc": "polygon: close, one point back, drop",
  "Ctrl Z, Ctrl Y": "undo, redo",
  Delete: "empty the mask",
  "M, L": "mirror strokes, lock the class",
  "V, O": "next view, hide the mask",
  "+ − Home": "zoom in, out, fit; wheel, right button or two fingers do it too",
  "G U A": "suggestion, uncertainty, accept the suggestion",
  "T D N": "train, done, next proposed image",
  "Page up, Page down": "image before, after",
};
const HEAT = (value) => [255, 0, 200, Math.min(235, value * 4)]; // no face has this colour
const MOST_TRACED = 300 ** 2; // pixels
const FAINT = 0.4; // share of the mask's opacity below the uncertainty

// What is shown and painted on
const page = {
  state: null, // as the server tells
  image: null, // its entry
  mask: null,
  photos: {},
  suggestion: null,
  superpixels: null,
  view: "rgb",
  tool: "brush",
  class: 1,
  size: 5,
  locked: new Set(),
  isMirrored: false,
  isHidden: false,
  showsSuggestion: false,
  showsUncertainty: false,
  polygon: [],
  cursor: null,
  erases: false, // with the other end of the pen
  openings: 0,
  isFinishing: false,
  isAlone: false, // the server does not answer
  isMaskNew: false, // since it was last drawn
};
const histories = new Map(); // by number, that of the image opened last at the end
const MOST_HISTORIES = 5;
export const view = new View(byId("stage"));
let saver, layer, heat, stroke, regions;

// Images

async function openImage(number) {
  const turn = ++page.openings; // another opening ends here
  if (number === page.image?.number) return;
  await saver.flush();
  if (turn === page.openings && !isDisputed()) await loadImage(number);
}

async function loadImage(number) {
  const turn = ++page.openings;
  const entry = page.state.images.find((image) => image.number === number);
  const { width, height, modalities } = entry;
  const [mask, ...images] = await Promise.all([
    api.getMask(number),
    ...modalities.map((name) => api.getImage(number, name)),
  ]);
  if (turn !== page.openings) return; // another one was asked for meanwhile
  const decoded = Object.fromEntries(modalities.map((name, k) => [name, images[k]]));
  if (stroke) endStroke(); // it belongs to the image before
  clearTimeout(regions);
  regions = null;
  Object.assign(page, {
    image: entry,
    mask: mask.values,
    photos: photosOf(decoded, width, height),
    suggestion: null,
    superpixels: null,
    showsSuggestion: false,
    polygon: [],
    cursor: null,
  });
  if (page.tool === "superpixel") loadSuperpixels();
  [layer, heat] = [new Layer(width, height), new Layer(width, height)];
  const past = saver.isKnown(number, mask.version) ? histories.get(number) : null;
  histories.delete(number);
  histories.set(number, past ?? new History());
  if (histories.size > MOST_HISTORIES) histories.delete(histories.keys().next().value);
  saver.note(number, mask.version);
  history.replaceState(null, "", `#${number}`);
  document.querySelector(`#images [value="${number}"]`).scrollIntoView({ block: "center", inline: "center" });
  recover(number, mask);
  chooseView(0);
  showMask();
  await loadSuggestion();
  showState();
}

/** Take up strokes that the browser kept because the server was gone. */
function recover(number, { values, version }) {
  const kept = saver.recall(number, values.length);
  if (!kept) return;
  if (kept.values.every((value, k) => value === values[k])) {
    saver.forget(number);
  } else if (kept.version === version) {
    change(kept.values, new Set());
    say("Strokes that the server had missed were recovered");
  } else {
    saver.dispute(number, kept.values);
  }
}

async function loadSuggestion() {
  const { image } = page;
  if (image.score === null || page.suggestion?.score === image.score) {
    if (image.score === null) page.suggestion = null;
  } else {
    const found = await api.getSuggestion(image.number).catch(({ message }) => say(message, "bad"));
    if (!found || page.image.number !== image.number) return; // a mask is painted without it, too
    page.suggestion = { ...found, score: image.score };
    heat.fill(found.uncertainty, HEAT);
  }
  page.showsSuggestion = page.suggestion !== null && isEmpty();
  showMask();
}

const isEmpty = () => page.mask.every((value) => value === 0);

function step(by) {
  const { images } = page.state;
  const place = images.indexOf(page.image) + by;
  if (images[place]) openImage(images[place].number);
}

// Painting

function rules() {
  const mirror = page.isMirrored ? page.state.classes.map((entry) => entry.mirror) : null;
  return { locked: page.locked, mirror };
}

/** Tell, and say, whether somebody must first decide between two masks. */
function isDisputed() {
  const isOpen = saver.conflicts.has(page.image?.number);
  if (isOpen) say("First decide which mask to keep", "bad");
  return isOpen;
}

function beginStroke() {
  if (isDisputed()) return false;
  if (page.showsSuggestion) {
    if (!isEmpty()) {
      page.showsSuggestion = false;
      showState();
      return false;
    }
    doIt.accept(); // what is shown is what is painted on
  }
  stroke = new Stroke(page.mask, page.image.width, rules());
  return true;
}

function endStroke() {
  const changed = stroke?.change();
  stroke = null;
  if (!changed) return;
  histories.get(page.image.number).push(changed);
  store();
}

/** Change the whole mask in one step that can be undone; locked classes stay. */
function change(values, locked = page.locked) {
  endStroke();
  if (isDisputed()) return;
  stroke = new Stroke(page.mask, page.image.width, { locked, mirror: null });
  stroke.putAll(values);
  endStroke();
  showMask();
}

function store() {
  saver.save(page.image.number, page.mask);
  if (page.image.state === "empty") page.image.state = "draft";
  showState();
}

const painted = () => (page.tool === "eraser" || page.erases ? 0 : page.class);

function paintAlong(from, to) {
  const { width, height } = page.image;
  if (page.tool === "superpixel") {
    for (const index of linePixels(from, to, 1, width, height)) {
      if (!page.superpixels) return;
      const own = page.superpixels[index];
      if (own === stroke.last) continue;
      stroke.last = own;
      const pixels = [];
      page.superpixels.forEach((value, k) => value === own && pixels.push(k));
      stroke.put(pixels, painted());
    }
  } else {
    stroke.put(linePixels(from, to, page.size, width, height), painted());
  }
  showMask();
}

/** Begin what the tool does at a point; return whether it goes on while the pointer moves. */
function press(point) {
  const { width, height } = page.image;
  const [x, y] = point.map(Math.floor);
  const isInside = x >= 0 && y >= 0 && x < width && y < height;
  if (page.tool === "polygon") {
    page.polygon.push(point);
    showMarks(point);
    return false;
  }
  if (page.tool === "fill") {
    if (isInside && beginStroke()) {
      stroke.put(connectedPixels(page.mask, y * width + x, width, height), painted());
      endStroke();
      showMask();
    }
    return false;
  }
  if (page.tool === "superpixel" && !page.superpixels) {
    return false;
  }
  if (!beginStroke()) return false;
  paintAlong(point, point);
  return true;
}

function closePolygon() {
  const points = page.polygon;
  page.polygon = [];
  if (points.length > 2 && beginStroke()) {
    stroke.put(polygonPixels(points, page.image.width, page.image.height), page.class);
    endStroke();
  }
  showMarks();
  showMask();
}

function clearAll() {
  change(new Uint8Array(page.mask.length));
}

function pickClass() {
  if (!page.cursor) return;
  const [x, y] = page.cursor.map(Math.floor);
  const value = page.mask[y * page.image.width + x];
  if (value !== undefined) chooseClass(value);
}

const doIt = {
  undo: () => moveHistory("undo"),
  redo: () => moveHistory("redo"),
  mirror() {
    page.isMirrored = !page.isMirrored;
    showState();
  },
  zoomIn: () => view.zoom(1.25),
  zoomOut: () => view.zoom(0.8),
  fit: () => view.fit(),
  help: () => byId("help").showModal(),
  suggestion() {
    page.showsSuggestion = page.suggestion !== null && !page.showsSuggestion;
    showMask();
    showState();
  },
  uncertainty() {
    page.showsUncertainty = !page.showsUncertainty;
    showMask();
    showState();
  },
  accept() {
    if (!page.suggestion) return;
    page.showsSuggestion = false;
    change(page.suggestion.labels);
  },
  async done() {
    if (page.isFinishing) return;
    page.isFinishing = true;
    try {
      await finish();
    } finally {
      page.isFinishing = false;
    }
  },
  async next() {
    const { proposed } = page.state;
    if (proposed === null) say("All images are finished");
    else if (proposed === page.image.number) say("This image is the one to paint next");
    else await openImage(proposed);
  },
  async train() {
    const { assistant } = page.state;
    if (!assistant) return;
    const isBusy = ["training", "suggesting"].includes(assistant.phase);
    take(await api.post(isBusy ? "assistant/cancel" : "assistant/train"));
    poll();
  },
};

async function finish() {
  const { number, state } = page.image;
  endStroke();
  if (isDisputed()) return;
  if (state === "done") {
    take(await api.post(`masks/${number}/draft`));
    return;
  }
  if (page.showsSuggestion && isEmpty()) doIt.accept();
  if (isEmpty() && page.warned !== number) {
    page.warned = number;
    say("Nothing is painted. Done once more finishes it as it is");
    return;
  }
  const finished = await saver.finish(number, page.mask);
  if (!finished) return; // it is said why
  take(finished);
  if (page.state.assistant && byId("auto").checked) {
    take(await api.post("assistant/train")); // after one that runs, where there is one
    poll();
  }
  if (page.image.number === number) await doIt.next();
}

function moveHistory(way) {
  endStroke();
  if (isDisputed()) return;
  if (histories.get(page.image.number)[way](page.mask)) {
    store();
    showMask();
  }
}

// Choices

function chooseTool(name) {
  page.tool = name;
  page.polygon = [];
  if (name === "superpixel") loadSuperpixels();
  showState();
  showMarks();
}

/** Find regions soon, once the size stays as it is. */
function loadSuperpixels() {
  page.superpixels = null;
  say("Finding regions …");
  clearTimeout(regions);
  const own = setTimeout(async () => {
    const { image, size } = page;
    const count = Math.round((image.width * image.height) / Math.max(4, size * size * 4));
    const found = await api.getSuperpixels(image.number, Math.min(5000, Math.max(4, count)));
    if (own !== regions) return;
    page.superpixels = found;
    say("Regions are ready");
  }, 200);
  regions = own;
}

function chooseView(by) {
  const names = Object.keys(VIEWS).filter((name) => VIEWS[name][1].every((p) => p in page.photos));
  const place = Math.max(0, names.indexOf(page.view)) + by;
  page.view = names[place % names.length];
  const photos = VIEWS[page.view][1].map((name) => page.photos[name]);
  view.show(photos, [page.image.width, page.image.height]);
  showState();
}

function chooseClass(number) {
  const count = page.state.classes.length;
  page.class = (number + count) % count;
  if (page.tool === "eraser") page.tool = "brush";
  showState();
}

function toggleLock(number) {
  if (!page.locked.delete(number)) page.locked.add(number);
  showState();
}

function hideMask() {
  page.isHidden = !page.isHidden;
  showMask();
}

function setSize(size) {
  page.size = Math.min(64, Math.max(1, size));
  byId("size").value = page.size;
  byId("sizeText").value = page.size;
  if (page.tool === "superpixel") loadSuperpixels();
  showMarks();
}

// Showing

function showMask() {
  page.isMaskNew = true;
  view.draw();
}

function renderMask() {
  if (!page.isMaskNew) return;
  page.isMaskNew = false;
  const values = page.showsSuggestion ? page.suggestion.labels : page.mask;
  const { classes } = page.state;
  const colourOf = (value) => (value ? [...(classes[value]?.colour ?? [0, 0, 0]), 255] : [0, 0, 0, 0]);
  layer.fill(values, colourOf);
  const { width, height } = page.image;
  // Of large images, outlines follow when the stroke has ended.
  if (!stroke || width * height <= MOST_TRACED) layer.trace(values, width, height);
  const showsHeat = page.showsUncertainty && page.suggestion;
  const opacity = (byId("opacity").value / 100) * (showsHeat ? FAINT : 1);
  view.layers = [
    ...(page.isHidden ? [] : [{ layer, opacity, isDashed: page.showsSuggestion }]),
    ...(showsHeat ? [{ layer: heat, opacity: 1 }] : []),
  ];
}

function showMarks(point = page.cursor) {
  const isRound = ["brush", "eraser"].includes(page.tool);
  const isShown = point && page.tool !== "hand";
  view.marks = {
    point: isShown ? point : null,
    radius: isRound ? page.size / 2 : 0,
    polygon: page.polygon,
  };
  view.draw();
}

function say(text, kind = "", live = "polite") {
  byId("status").ariaLive = live;
  byId("status").textContent = text;
  byId("status").dataset.kind = kind;
}

function pressed(element, isPressed) {
  element.setAttribute("aria-pressed", isPressed);
}

function showState() {
  const { state, image } = page;
  const done = state.images.filter((entry) => entry.state === "done").length;
  byId("where").textContent = `Image ${image.number} · ${done} of ${state.images.length} done`;
  for (const button of document.querySelectorAll("#views button")) {
    pressed(button, button.value === page.view);
    button.hidden = !VIEWS[button.value][1].every((name) => name in page.photos);
  }
  for (const button of document.querySelectorAll("#tools [data-tool]")) {
    pressed(button, button.dataset.tool === page.tool);
  }
  byId("undo").disabled = !histories.get(image.number).canUndo;
  byId("redo").disabled = !histories.get(image.number).canRedo;
  pressed(byId("mirror"), page.isMirrored);
  document.querySelectorAll("#classes .class").forEach((row, number) => {
    const [choice, lock] = row.children;
    choice.setAttribute("aria-checked", number === page.class);
    choice.tabIndex = number === page.class ? 0 : -1;
    pressed(lock, page.locked.has(number));
  });
  for (const [k, button] of [...byId("images").children].entries()) {
    const entry = state.images[k];
    button.dataset.state = entry.state;
    button.toggleAttribute("data-proposed", entry.number === state.proposed);
    if (entry === image) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    const words = { empty: "not painted", draft: "in work", done: "finished" };
    const isProposed = entry.number === state.proposed ? ", proposed" : "";
    button.setAttribute("aria-label", `Image ${entry.number}, ${words[entry.state]}${isProposed}`);
  }
  byId("done").textContent = image.state === "done" ? "Reopen" : "Done";
  byId("next").disabled = state.proposed === null;
  byId("export").hidden = !done;
  showAssistant();
}

function showAssistant() {
  const { assistant } = page.state;
  byId("assistant").hidden = !assistant;
  if (!assistant) return;
  const { phase, done, total, message, curve } = assistant;
  const isBusy = ["training", "suggesting"].includes(phase);
  const finished = page.state.images.filter((entry) => entry.state === "done").length;
  byId("train").textContent = isBusy ? "Cancel" : "Train";
  byId("train").disabled = phase === "starting" || (!isBusy && !finished);
  byId("progress").hidden = !isBusy;
  byId("progress").value = phase === "suggesting" ? 1 : done / (total || 1);
  const waiting = finished ? "" : "Finish one image, then it can learn.";
  const seen = page.suggestion ? "Has a suggestion for this image." : waiting;
  byId("assistantText").textContent =
    { starting: "Loading …", training: "Learning …", suggesting: "Looking at the other images …" }[phase] ??
    (message || (page.showsSuggestion ? "You see its suggestion. Paint on it, or accept it." : seen));
  byId("assistantText").dataset.kind = phase;
  for (const name of ["suggestion", "uncertainty", "accept"]) {
    byId(name).disabled = !page.suggestion;
  }
  pressed(byId("suggestion"), page.showsSuggestion);
  pressed(byId("uncertainty"), page.showsUncertainty);
  byId("curve").hidden = !curve.length;
  if (curve.length) showCurve(curve);
}

/** Plot how much of each next image the interpreter had right before it learnt it. */
function showCurve(curve) {
  const [width, height] = [240, 84];
  const most = Math.max(...curve.map((row) => row.trained_on), 2);
  const at = (learnt, value) =>
    [20 + ((width - 26) * (learnt - 1)) / (most - 1), height - 6 - (height - 12) * value]
      .map((value) => value.toFixed(1))
      .join();
  const rows = [...curve].sort((a, b) => a.trained_on - b.trained_on);
  const line = (values, attributes) => {
    const known = values.filter(([, value]) => value !== null);
    if (!known.length) return "";
    const points = known.map(([learnt, value]) => at(learnt, value));
    const dots = points.map((p) => `M${p}h0`).join("");
    return `<path d="M${points.join("L")}${dots}" ${attributes}/>`;
  };
  const classes = page.state.classes.map(({ colour }, k) =>
    line(
      rows.map((row) => [row.trained_on, row.iou[k]]),
      `class="thin" stroke="rgb(${k ? colour : [128, 128, 128]})"`,
    ),
  );
  const grid = [0, 0.5, 1].map(
    (y) =>
      `<path class="grid" d="M${at(1, y)}L${at(most, y)}"/>` +
      `<text x="2" y="${height - 3 - (height - 12) * y}">${y}</text>`,
  );
  const mean = line(rows.map((row) => [row.trained_on, row.mean_iou]), 'class="mean"');
  const last = rows.at(-1);
  byId("curve").innerHTML =
    `<svg viewBox="0 0 ${width} ${height}" aria-hidden="true">${grid.join("")}${classes.join("")}${mean}</svg>` +
    `<figcaption>After ${last.trained_on} ${last.trained_on > 1 ? "images" : "image"}: mean IoU ` +
    `<b>${last.mean_iou.toFixed(2)}</b> on the next one; what you accept unchanged counts as right` +
    "</figcaption>";
}

// The server's state

function take(state) {
  const number = page.image?.number;
  page.state = state;
  page.image = state.images.find((entry) => entry.number === number);
  if (page.image) showState();
}

let timer = null;

async function poll() {
  clearTimeout(timer);
  try {
    take(await api.getState());
    if (page.isAlone) say("");
    page.isAlone = false;
    saver.resume();
    if (!stroke && page.suggestion?.score !== (page.image.score ?? undefined)) {
      await loadSuggestion();
      showState();
    }
    const { assistant } = page.state;
    const isBusy = assistant && ["starting", "training", "suggesting"].includes(assistant.phase);
    timer = setTimeout(poll, isBusy ? 500 : 5000);
  } catch ({ status, message }) {
    page.isAlone = true;
    const isGone = !status || status === 404; // or has another token
    say(isGone ? "The server is gone. Start it again and open its new address" : message, "bad");
    timer = setTimeout(poll, 3000);
  }
}

function tell(kind, content) {
  if (kind === "conflict") askConflict();
  const texts = {
    saving: "Saving …",
    saved: "All strokes are saved",
    offline: "Not saved, but kept in this browser: the server is gone. Open its new address",
    refused: `Not saved: ${content}`,
    conflict: "Not saved",
  };
  const look = { saved: "good", saving: "" }[kind];
  say(texts[kind], look ?? "bad", look === undefined ? "polite" : "off");
}

/** Ask which of two masks is right: the file's, or the one in this browser. */
function askConflict() {
  const banner = byId("banner");
  const [number] = saver.conflicts.keys();
  banner.hidden = number === undefined;
  if (banner.hidden) return;
  const answer = (text, act) => {
    const button = document.createElement("button");
    button.textContent = text;
    button.onclick = async () => {
      banner.inert = true;
      try {
        await act();
      } finally {
        banner.inert = false;
        askConflict();
      }
    };
    return button;
  };
  banner.replaceChildren(
    `Image ${number} was also changed elsewhere. `,
    answer("Use mine", async () => {
      const mine = saver.settle(number, (await api.getMask(number)).version);
      if (number !== page.image.number || mine.every((value, k) => value === page.mask[k])) return;
      page.mask.set(mine);
      histories.set(number, new History());
      showMask();
    }),
    answer("Use the file", async () => {
      saver.settle(number);
      histories.delete(number);
      if (number === page.image.number) await loadImage(number);
    }),
  );
}

// Pointers: one paints, two fingers or another button move

const pointers = new Map();
let last, isPanning;

function onDown(event) {
  const stage = byId("stage");
  stage.focus({ preventScroll: true });
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (pointers.size === 2) {
    stroke?.cancel();
    stroke = null;
    showMask();
  }
  page.erases = (event.buttons & 32) !== 0;
  isPanning = pointers.size > 1 || page.tool === "hand" || event.button === 1 || event.button === 2;
  if (isPanning) return;
  view.hold([event.clientX, event.clientY]);
  last = view.toImage([event.clientX, event.clientY]);
  page.cursor = last;
  const goesOn = press(last);
  if (!goesOn) last = null;
  showMarks();
}

function onMove(event) {
  const before = pointers.get(event.pointerId);
  const now = [event.clientX, event.clientY];
  if (before) pointers.set(event.pointerId, now);
  if (before && isPanning) {
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
    if (others.length) {
      const [other] = others;
      const distance = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      view.zoom(distance(now) / Math.max(1, distance(before)), other);
    }
    const share = view.scale * pointers.size;
    view.pan((now[0] - before[0]) / share, (now[1] - before[1]) / share);
    return;
  }
  page.cursor = view.toImage(now);
  if (stroke && last) {
    const parts = event.getCoalescedEvents?.() ?? [];
    for (const part of parts.length ? parts : [event]) {
      const point = view.toImage([part.clientX, part.clientY]);
      paintAlong(last, point);
      last = point;
    }
  }
  showMarks();
}

function onUp(event) {
  if (!pointers.delete(event.pointerId)) return;
  view.release();
  if (event.type === "pointercancel") stroke?.cancel();
  last = null;
  endStroke();
  showMask();
}

function onWheel(event) {
  event.preventDefault();
  if (event.shiftKey) view.pan(-event.deltaY / view.scale, 0);
  else view.zoom(Math.exp(-event.deltaY / 400), [event.clientX, event.clientY]);
}

// Keys

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function moveCursor([dx, dy], distance) {
  const { width, height } = page.image;
  const [x, y] = page.cursor ?? [width / 2, height / 2];
  const inside = (value, most) => Math.min(most - 0.5, Math.max(0.5, Math.floor(value) + 0.5));
  const point = [inside(x + dx * distance, width), inside(y + dy * distance, height)];
  page.cursor = point;
  view.reveal(point);
  if (stroke && last) {
    paintAlong(last, point);
    last = point;
  }
  showMarks();
}

function onKey(event) {
  const { target, key } = event;
  if (byId("help").open || event.altKey || !page.image) return;
  if (event.ctrlKey || event.metaKey) {
    const way = key === "y" || (key.toLowerCase() === "z" && event.shiftKey) ? "redo" : "undo";
    if (!["z", "Z", "y"].includes(key)) return;
    event.preventDefault();
    moveHistory(way);
    return;
  }
  if (event.repeat && /^([a-z]|Enter|Delete)$/i.test(key)) {
    event.preventDefault(); // a key that is held does it once
    return;
  }
  if (target.type === "range" && /^(Home|End|Page|Arrow)/.test(key)) return;
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  const isOnStage = target === byId("stage") || target === document.body;
  if (digit) {
    const number = Number(digit[1]) + (event.shiftKey ? 10 : 0);
    if (number < page.state.classes.length) chooseClass(number);
  } else if (ARROWS[key] && isOnStage) {
    moveCursor(ARROWS[key], event.shiftKey ? 8 : 1);
  } else if (ARROWS[key] && target.role === "radio") {
    chooseClass(page.class + (ARROWS[key][0] + ARROWS[key][1]));
    document.querySelector("#classes [aria-checked=true]").focus();
  } else if (key === " " && isOnStage) {
    if (!event.repeat) {
      moveCursor([0, 0], 0);
      last = press(page.cursor) ? page.cursor : null;
    }
  } else if (key === "Enter" && !isOnStage) {
    return;
  } else if (KEYS[key] ?? KEYS[key.toLowerCase()]) {
    (KEYS[key] ?? KEYS[key.toLowerCase()])();
  } else {
    return;
  }
  event.preventDefault();
}

function onKeyUp(event) {
  if (event.key !== " " || !last || pointers.size) return;
  last = null;
  endStroke();
  showMask();
}

// Building

function icon(path) {
  return `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${path}"/></svg>`;
}

function build() {
  for (const [name, [text]] of Object.entries(VIEWS)) {
    const button = document.createElement("button");
    Object.assign(button, { value: name, textContent: text, title: `${text} (V: next)` });
    button.onclick = () => {
      page.view = name;
      chooseView(0);
    };
    byId("views").append(button);
  }
  for (const [name, [text, key, path]] of Object.entries({ ...TOOLS, ...ACTIONS })) {
    const button = document.createElement("button");
    button.title = `${text} (${key})`;
    button.innerHTML = `${icon(path)}<span>${text}</span>`;
    if (TOOLS[name]) {
      button.dataset.tool = name;
      button.onclick = () => chooseTool(name);
    } else {
      button.id = name;
      button.onclick = () => doIt[name]();
    }
    if (name === "superpixel" && !page.state.has_superpixels) {
      button.disabled = true;
      button.title = "Regions need scikit-image: pip install -r requirements-extras.txt";
    }
    byId("tools").append(button);
  }
  page.state.classes.forEach(({ name, colour }, number) => {
    const row = document.createElement("div");
    row.className = "class";
    const [choice, lock] = [document.createElement("button"), document.createElement("button")];
    const chip = document.createElement("i");
    chip.style.background = `rgb(${colour})`;
    const label = document.createElement("span");
    label.textContent = name;
    const key = document.createElement("kbd");
    key.textContent = number < 10 ? number : number < 20 ? `⇧${number - 10}` : "";
    choice.append(chip, label, key);
    choice.role = "radio";
    choice.onclick = () => chooseClass(number);
    lock.className = "lock";
    lock.innerHTML = icon("M7 11V8a5 5 0 0 1 10 0v3M5 11h14v9H5z");
    lock.setAttribute("aria-label", `Lock ${name}`);
    lock.title = "Locked, it is not painted over (L)";
    lock.onclick = () => toggleLock(number);
    row.append(choice, lock);
    byId("classes").append(row);
  });
  for (const { number } of page.state.images) {
    const button = document.createElement("button");
    button.value = number;
    button.innerHTML = `<img src="api/images/${number}/rgb" alt="" loading="lazy" /><span>${number}</span>`;
    button.onclick = () => openImage(number);
    byId("images").append(button);
  }
  for (const [keys, text] of Object.entries(HELP)) {
    const [term, meaning] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, meaning.textContent] = [keys, text];
    byId("help").querySelector("dl").append(term, meaning);
  }
  for (const button of document.querySelectorAll("[data-do]")) {
    button.onclick = () => doIt[button.dataset.do]();
  }
}

function listen() {
  const stage = byId("stage");
  stage.addEventListener("pointerdown", onDown);
  stage.addEventListener("pointermove", onMove);
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, onUp);
  stage.addEventListener("pointerleave", () => {
    if (!pointers.size) page.cursor = null;
    showMarks();
  });
  stage.addEventListener("wheel", onWheel, { passive: false });
  stage.addEventListener("dblclick", closePolygon);
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  addEventListener("keydown", onKey);
  addEventListener("keyup", onKeyUp);
  byId("opacity").oninput = showMask;
  byId("size").oninput = (event) => setSize(Number(event.target.value));
}

async function main() {
  page.state = await api.getState();
  document.title = `${page.state.name} · Annotate`;
  byId("title").textContent = page.state.name;
  saver = new api.Saver(page.state.folder, tell);
  build();
  setSize(Math.max(1, Math.round(page.state.images[0].width / 24)));
  view.beforeDraw = renderMask;
  const wanted = Number(location.hash.slice(1) || NaN);
  const { images } = page.state;
  const first =
    images.find((image) => image.number === wanted) ?? images.find(({ state }) => state === "draft");
  await openImage(first?.number ?? page.state.proposed ?? images[0].number);
  listen();
  document.body.inert = false;
  poll();
}

addEventListener("unhandledrejection", (event) => say(event.reason?.message ?? "Error", "bad"));
main();
