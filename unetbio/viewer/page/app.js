// The page of unetbio view: one image with its cells, tools to correct them, and the keys.

import {CellLayer} from "./layer.js";
import {get, getIds, post} from "./server.js";
import {CLASS, CellTable, Histogram, fillColumns, format, showClasses, showRows} from "./table.js";

const TILE = 512;
const ROWS_WAIT = 300;
const CONTRAST_WAIT = 90;
const PICTURE_WAIT = 1500;
const $ = (id) => document.getElementById(id);
const {OpenSeadragon} = window;

const TOOLS = {
  select: {key: "v", text: "Select", hint: ""},
  draw: {key: "d", text: "Draw", hint: "Press and draw the outline of a new cell"},
  extend: {key: "e", text: "Extend", hint: "Draw around what belongs to the selected cell too"},
  erase: {key: "r", text: "Erase", hint: "Draw around what is no cell; of the selected cells alone, if there are any"},
  split: {key: "s", text: "Split", hint: "Draw a line across a cell, from outside to outside"},
};
const CLOSED = new Set(["draw", "extend", "erase"]);

const state = {
  images: [], index: 0, wanted: 0, before: [], image: null, plane: 0, version: 0, selected: [], tool: "select",
  // Rises when pixels change: rows that were measured before are out of date then, and not when a cell is accepted.
  pixels: 0, isBusy: false, readOnly: "",
};
const table = new CellTable();

const viewer = OpenSeadragon({
  element: $("viewer"),
  showNavigationControl: false,
  drawer: "canvas",
  animationTime: 0.25,
  maxZoomPixelRatio: 24,
  visibilityRatio: 0.3,
  preserveImageSizeOnResize: true,
  gestureSettingsMouse: {clickToZoom: false, dblClickToZoom: false, flickEnabled: false},
  gestureSettingsTouch: {clickToZoom: false, dblClickToZoom: false, flickEnabled: false},
});
const layer = new CellLayer(viewer, $("cells"), (plane, level, x, y) =>
  getIds(`image/${state.index}/labels/${plane}/${level}/${x}_${y}`));
const histogram = new Histogram($("histogram"), (first, stop) => select(table.inBars($("column").value, first, stop)));

// --- Messages ---------------------------------------------------------------------------------------------------------

let messageTimer = 0;

function say(text, seconds = 8) {
  clearTimeout(messageTimer);
  $("message").textContent = text;
  $("message").hidden = !text;
  if (text) messageTimer = setTimeout(() => say(""), 1000 * seconds);
}

function showReadOnly(reason) {
  state.readOnly = reason;
  $("read-only").textContent = reason && `Read only: ${reason}`;
  $("read-only").hidden = !reason;
}

async function trying(action) {
  try {
    return await action();
  } catch (error) {
    say(error.status ? error.message : `unetbio view does not answer any more: start it again (${error.message})`);
    if (error.status === 423) showReadOnly(error.message);
    return null;
  }
}

// --- Images -----------------------------------------------------------------------------------------------------------

async function loadImages() {
  const found = await get("images");
  state.images = found.images;
  document.title = `${found.folder} · unetbio view`;
  showReadOnly(found.read_only);
  showImages();
}

const isDone = (image) => image.is_accepted;

// The images are in the order of the model's doubt: the first that is neither accepted nor was seen before this one.
function nextIndex() {
  const others = state.images.map((image, index) => index).filter((index) => index !== state.wanted);
  const open = others.filter((index) => !isDone(state.images[index]));
  return open.find((index) => !state.before.includes(index)) ?? open.find((index) => index > state.wanted) ?? open[0] ?? others[0];
}

function goNext() {
  const index = nextIndex();
  if (index === undefined) return say("this is the only image");
  if (isDone(state.images[index])) say("all other images are accepted");
  return follow(index);
}

function follow(index) {
  state.before.push(state.wanted);
  return openImage(index);
}

function goPrevious() {
  const index = state.before.pop();
  return index === undefined ? say("there is no image before: the first is the one where the model is least sure") : openImage(index);
}

async function openImage(index) {
  state.wanted = index;
  const image = await trying(() => get(`image/${index}`));
  if (!image || state.wanted !== index) return;
  const before = state.index;
  Object.assign(state, {index, image, plane: 0, version: image.version, pixels: state.pixels + 1, selected: []});
  showReadOnly(image.read_only);
  $("name").textContent = state.images[index].name;
  $("saved").textContent = "";
  layer.open(image);
  forgetRows();
  showChannels();
  showPlane();
  showPicture(true);
  remember(index, image);
  readState(image);
  [before, index].forEach(showImage);
  $("images").children[index].scrollIntoView({block: "nearest"});
}

function showImages() {
  $("images").replaceChildren(...state.images.map((_, index) => listItem(index)));
  showProgress();
}

function listItem(index) {
  const image = state.images[index];
  const button = document.createElement("button");
  const mark = image.is_accepted ? "✓" : image.is_edited ? "✎" : "";
  const doubt = image.doubtful === null ? "" : format(Math.round(image.doubtful * 10) / 10);
  for (const [name, text] of [["done", mark], ["name", image.name], ["quiet", doubt]]) {
    button.append(Object.assign(document.createElement("span"), {className: name, textContent: text}));
  }
  button.title = doubt && `the model expects ${doubt} of its cells to be wrong`;
  button.setAttribute("aria-current", index === state.index);
  button.addEventListener("click", () => follow(index));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

// One line of the list: there may be thousands.
function showImage(index) {
  $("images").children[index].replaceWith(listItem(index));
}

function showProgress() {
  $("progress").textContent = `${state.images.filter(isDone).length} of ${state.images.length} accepted`;
}

// --- Picture ----------------------------------------------------------------------------------------------------------

function layers() {
  const shown = state.image.channels.filter((channel) => channel.is_shown);
  return shown.map(({channel, low, high, colour}) => `${channel}:${low}:${high}:${colour.slice(1)}`).join();
}

// A new picture is put over the old one, which goes when all of the new one is there.
function showPicture(isFirst = false) {
  const {width, height} = state.image, chosen = layers();
  const maxLevel = Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / TILE)));
  const path = `image/${state.index}/tile/${state.plane}`;
  const tileSource = {
    width, height, tileSize: TILE, minLevel: 0, maxLevel,
    getTileUrl: (level, x, y) => `${path}/${maxLevel - level}/${x}_${y}?layers=${chosen}`,
  };
  if (isFirst) viewer.world.removeAll();
  const old = Array.from({length: viewer.world.getItemCount()}, (_, number) => viewer.world.getItemAt(number));
  const remove = () => old.filter((item) => viewer.world.getIndexOfItem(item) >= 0).forEach((item) => viewer.world.removeItem(item));
  viewer.addTiledImage({
    tileSource, opacity: chosen ? 1 : 0,
    success: ({item}) => {
      if (isFirst) viewer.viewport.goHome(true);
      // The rows take longer than the picture, and wait for it; but not for one that fails to come.
      const finish = once(() => { remove(); layer.draw(); if (isFirst) loadRows(); });
      item.whenFullyLoaded(finish);
      setTimeout(finish, PICTURE_WAIT);
      layer.draw();
    },
  });
}

function showChannels() {
  const {channels} = state.image;
  const boxes = channels.map((channel, number) => {
    const box = document.createElement("div");
    box.className = "channel";
    const check = Object.assign(document.createElement("input"), {type: "checkbox", checked: channel.is_shown, id: `channel-${number}`});
    const name = Object.assign(document.createElement("label"), {textContent: channel.name, htmlFor: check.id, title: `key ${number + 1}`});
    const colour = Object.assign(document.createElement("input"), {type: "color", value: channel.colour, title: "colour"});
    check.addEventListener("change", () => { channel.is_shown = check.checked; showPicture(); });
    colour.addEventListener("input", () => { channel.colour = colour.value; later(showPicture, CONTRAST_WAIT); });
    box.append(check, name, colour, ...["low", "high"].map((end) => contrastSlider(channel, end)));
    return box;
  });
  $("channels").replaceChildren(...boxes);
}

function contrastSlider(channel, end) {
  const row = Object.assign(document.createElement("div"), {className: "contrast"});
  const label = Object.assign(document.createElement("label"), {textContent: end === "low" ? "black" : "white"});
  const slider = Object.assign(document.createElement("input"), {type: "range", min: 0, max: 1000});
  const value = document.createElement("span");
  const {smallest, largest} = channel;
  // Dark values have more room: cells are often few and bright.
  const toShare = (grey) => Math.sqrt(Math.max(0, grey - smallest) / (largest - smallest || 1));
  slider.value = 1000 * toShare(channel[end]);
  slider.setAttribute("aria-label", `${channel.name} ${label.textContent}`);
  value.textContent = format(channel[end]);
  slider.addEventListener("input", () => {
    const grey = smallest + (slider.value / 1000) ** 2 * (largest - smallest), step = (largest - smallest) / 1e4 || 1e-6;
    channel[end] = end === "low" ? Math.min(grey, channel.high - step) : Math.max(grey, channel.low + step);
    value.textContent = format(channel[end]);
    later(showPicture, CONTRAST_WAIT);
  });
  row.append(label, slider, value);
  return row;
}

function once(action) {
  let isDue = true;
  return () => { if (isDue) { isDue = false; action(); } };
}

const timers = new Map();

function later(action, wait) {
  clearTimeout(timers.get(action));
  timers.set(action, setTimeout(action, wait));
}

function showPlane() {
  const {times, sections, time_numbers: numbers, first_section: first} = state.image;
  const t = Math.floor(state.plane / sections), z = state.plane % sections;
  $("plane").hidden = times * sections === 1;
  const name = (axis, number, from, to) => `${axis} ${number} of ${from} to ${to}`;
  $("plane-name").textContent = [
    times > 1 && name("time", numbers[t], numbers[0], numbers.at(-1)),
    sections > 1 && name("section", first + z, first, first + sections - 1),
  ].filter(Boolean).join(", ");
  layer.show(state.plane);
}

function stepPlane(step) {
  const plane = state.plane + step, {times, sections} = state.image;
  if (plane < 0 || plane >= times * sections) return;
  const volume = shownVolume();
  state.plane = plane;
  if (shownVolume() !== volume) forgetRows();
  showPlane();
  showPicture();
  later(loadRows, ROWS_WAIT);
}

// --- Cells ------------------------------------------------------------------------------------------------------------

// What the server says of an image in the list.
function remember(index, {is_edited, is_accepted}) {
  Object.assign(state.images[index], {is_edited, is_accepted});
}

// What the server says of the corrections of the open image after each of them.
function readState(found) {
  state.version = found.version;
  state.accepted = found.accepted;
  $("undo").disabled = !found.can_undo || Boolean(state.readOnly);
  $("redo").disabled = !found.can_redo || Boolean(state.readOnly);
  $("accept-image").textContent = found.is_accepted ? "✓ Accepted" : "Accept image";
  $("accept-image").classList.toggle("done", found.is_accepted);
  layer.paint({accepted: acceptedCells()});
  if (!found.box) return;
  state.pixels += 1;
  layer.refresh(found.box);
}

// Planes of a volume share the numbers of their cells.
const shownVolume = () => Math.floor(state.plane / (state.image?.planes_of_volume ?? 1));

const acceptedCells = () => new Set(state.accepted?.[shownVolume()] ?? []);

// Cells of another image or volume have other numbers: none is shown or selected until the rows of these are there.
function forgetRows() {
  table.read({});
  $("count").textContent = "";
  colour();
  select([]);
}

async function loadRows() {
  const {index, plane, pixels} = state;
  const found = await trying(() => get(`image/${index}/rows/${plane}`));
  if (!found || index !== state.index || plane !== state.plane || pixels !== state.pixels) return;
  table.read(found.columns, found.classes);
  fillColumns($("column"), table.names);
  $("count").textContent = table.ids.length;
  const {width, height, pixel_size_um: size} = state.image;
  $("facts").textContent = `${width} × ${height} px${size ? `, ${format(size)} µm a pixel` : ""}`;
  state.selected = state.selected.filter((id) => table.rowOf.has(id));
  colour();
  showSelected();
}

function colour() {
  const chosen = $("column").value, column = table.columns[chosen] ? chosen : "", isClass = column === CLASS;
  layer.paint({colours: table.colours(column), accepted: acceptedCells()});
  histogram.show(table, column);
  $("classes").hidden = !isClass;
  showClasses($("classes"), table, select);
  $("range").textContent = column && !isClass ? table.limits(column).map(format).join(" to ") : "";
}

function select(ids) {
  state.selected = ids;
  showSelected();
}

function showSelected() {
  layer.paint({selected: new Set(state.selected)});
  showRows($("rows"), table, state.selected, $("column").value, go);
}

// Show a cell: large enough to judge it.
function go(id) {
  select([id]);
  const x = table.value("centroid_x_px", id), y = table.value("centroid_y_px", id), z = table.value("centroid_z_px", id);
  if (x === null) return;
  const {sections} = state.image, item = viewer.world.getItemAt(0);
  if (z !== null && sections > 1) stepPlane(Math.round(z) - state.plane % sections);
  const size = Math.max(160, 8 * Math.sqrt(table.value("area_px", id) ?? 400));
  const whole = item.imageToViewportRectangle(x - size / 2, y - size / 2, size, size);
  const isNear = viewer.viewport.getBounds().width < 3 * whole.width;
  if (isNear) viewer.viewport.panTo(whole.getCenter());
  else viewer.viewport.fitBounds(whole);
}

function step(direction) {
  const ordered = table.doubtful(acceptedCells());
  if (!ordered.length) return say(table.ids.length ? "all cells are accepted: Enter accepts the image" : "there are no cells");
  const at = ordered.indexOf(state.selected[0]);
  return go(ordered[at < 0 ? 0 : (at + direction + ordered.length) % ordered.length]);
}

// --- Corrections ------------------------------------------------------------------------------------------------------

async function change(what, body = {}) {
  if (!state.image) return null;
  if (state.isBusy) {
    say("the last correction is still being saved: do this once more when it is");
    return null;
  }
  state.isBusy = true;
  say("");
  $("saved").textContent = "saving …";
  const {index} = state;
  const found = await trying(() => post(`image/${index}/${what}`, {version: state.version, plane: state.plane, ...body}));
  state.isBusy = false;
  $("saved").textContent = found ? "saved" : "";
  if (found) {
    if (state.readOnly) showReadOnly("");
    remember(index, found);
    showImage(index);
    showProgress();
    // Another image was opened meanwhile: its state is not this one's.
    if (index !== state.index) return null;
    readState(found);
    if (found.box) later(loadRows, ROWS_WAIT);
  }
  return found;
}

// As `change`; null too if other cells are shown when it is saved, which have other numbers.
async function changeCells(what, body) {
  const volume = shownVolume(), found = await change(what, body);
  return volume === shownVolume() ? found : null;
}

async function correct(kind, points = []) {
  const found = await changeCells("correct", {kind, ids: state.selected, points});
  if (!found) return;
  const kept = {merge: found.cells.slice(0, 1), draw: found.cells, extend: state.selected, erase: state.selected}[kind] ?? [];
  table.forget(found.cells.filter((id) => !kept.includes(id) && kind !== "split"));
  select(kept);
}

async function acceptCells() {
  const accepted = acceptedCells();
  if (!state.selected.length) return say("select a cell to accept it; Enter accepts the image");
  return change("accept", {ids: state.selected, accept: !state.selected.every((id) => accepted.has(id))});
}

async function acceptAndStep() {
  if (!state.selected.length) return step(1);
  const ordered = table.doubtful(acceptedCells()), at = ordered.indexOf(state.selected[0]);
  const following = ordered.filter((id) => !state.selected.includes(id))[Math.max(0, at)] ?? ordered.find((id) => !state.selected.includes(id));
  const found = await changeCells("accept", {ids: state.selected, accept: true});
  if (!found) return null;
  return following === undefined ? say("all cells are accepted: Enter accepts the image") : go(following);
}

async function acceptImage(isClick = false) {
  const {index} = state, isAccepted = state.images[index].is_accepted;
  const found = await change("accept-image", {accept: !(isAccepted && isClick)});
  if (found?.is_accepted && state.wanted === index && state.images.some((image) => !image.is_accepted)) goNext();
}

async function showTraining() {
  const found = await trying(() => get("training"));
  if (!found) return;
  const images = (count) => `${count} image${count === 1 ? "" : "s"}`;
  const waiting = found.waiting ? ` ${images(found.waiting)} edited and not accepted: left out.` : "";
  $("training-text").textContent = found.accepted
    ? `${images(found.accepted)} accepted, to train on.${waiting} Run this in a terminal:`
    : `No image is accepted yet: accept those in which all cells are right (Enter).${waiting} Then run:`;
  $("training-command").textContent = found.command;
  $("training").showModal();
}

// --- Pointer ----------------------------------------------------------------------------------------------------------

function useTool(name) {
  state.tool = name;
  layer.path = null;
  for (const button of $("tools").querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === name);
  $("stage").classList.toggle("drawing", name !== "select");
  $("hint").textContent = TOOLS[name].hint && `${TOOLS[name].hint} (Esc ends)`;
  $("hint").hidden = !TOOLS[name].hint;
  layer.draw();
}

function addPoint(position) {
  const point = layer.toImage(position);
  if (point) layer.path.points.push([Math.round(point.x * 100) / 100, Math.round(point.y * 100) / 100]);
  layer.draw();
}

viewer.addHandler("canvas-press", (event) => {
  if (state.tool === "select" || !state.image) return;
  layer.path = {points: [], isClosed: CLOSED.has(state.tool)};
  addPoint(event.position);
});
viewer.addHandler("canvas-drag", (event) => {
  if (!layer.path) return;
  event.preventDefaultAction = true;
  addPoint(event.position);
});
viewer.addHandler("canvas-release", async () => {
  const {path} = layer;
  if (!path) return;
  if (path.points.length > 1) await correct(state.tool, path.points);
  if (layer.path === path) layer.path = null;
  layer.draw();
});
viewer.addHandler("canvas-click", (event) => {
  if (!event.quick || state.tool !== "select") return;
  const point = layer.toImage(event.position);
  const id = point ? layer.idAt(Math.floor(point.x), Math.floor(point.y)) : 0;
  const isAdded = event.originalEvent.shiftKey || event.originalEvent.ctrlKey || event.originalEvent.metaKey;
  const others = state.selected.filter((each) => each !== id);
  if (!isAdded) select(id ? [id] : []);
  else if (id) select(others.length < state.selected.length ? others : [...others, id]);
});
viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
viewer.addHandler("zoom", () => {
  const item = viewer.world.getItemAt(0);
  if (item) viewer.drawer.setImageSmoothingEnabled(item.viewportToImageZoom(viewer.viewport.getZoom()) < 2);
});

// --- Keys -------------------------------------------------------------------------------------------------------------

const pan = (x, y) => () => viewer.viewport.panBy(viewer.viewport.deltaPointsFromPixels(new OpenSeadragon.Point(90 * x, 90 * y)));
const zoom = (factor) => () => viewer.viewport.zoomBy(factor).applyConstraints();

function cycleStyle() {
  const select = $("style");
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  layer.paint({style: select.value});
}

function toggleChannel(number) {
  $(`channel-${number}`)?.click();
}

const KEYS = [
  ["j", "the next cell, the least sure first", () => step(1)],
  ["k", "the cell before", () => step(-1)],
  [" ", "accept the selected cells, and go to the next", acceptAndStep, "Space"],
  ["a", "accept the selected cells, or no longer", acceptCells],
  ["Enter", "accept the image, and go to the next", () => acceptImage()],
  ["n", "the next image: the one where the model is least sure", goNext],
  ["p", "the image before", goPrevious],
  ...Object.entries(TOOLS).map(([name, {key, text}]) => [key, text.toLowerCase(), () => useTool(name)]),
  ["m", "merge the selected cells", () => correct("merge")],
  ["x", "delete the selected cells", () => correct("delete"), "x, Del"],
  ["z", "undo", () => change("undo"), "z, Ctrl+Z"],
  ["y", "redo", () => change("redo"), "y, Ctrl+Y"],
  ["o", "outlines, filled, image alone", cycleStyle],
  ["f", "the whole image", () => viewer.viewport.goHome()],
  ["g", "the selected cell", () => state.selected.length && go(state.selected[0])],
  [",", "plane before", () => stepPlane(-1)],
  [".", "next plane", () => stepPlane(1)],
  ["+", "zoom in", zoom(1.5), "+, wheel"],
  ["-", "zoom out", zoom(1 / 1.5), "-, wheel"],
  ["1", "channels 1 to 9 on and off", () => toggleChannel(0), "1 … 9"],
  ["Escape", "select nothing, end a tool", () => { useTool("select"); select([]); }, "Esc"],
  ["?", "these keys", () => $("keys").showModal()],
];
const ACTIONS = new Map(KEYS.map(([key, , action]) => [key, action]));
for (let number = 2; number <= 9; number++) ACTIONS.set(String(number), () => toggleChannel(number - 1));
for (const [key, x, y] of [["ArrowLeft", -1, 0], ["ArrowRight", 1, 0], ["ArrowUp", 0, -1], ["ArrowDown", 0, 1]]) ACTIONS.set(key, pan(x, y));
ACTIONS.set("Delete", () => correct("delete"));
ACTIONS.set("Backspace", () => correct("delete"));
ACTIONS.set("=", zoom(1.5));

function keyOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!(event.ctrlKey || event.metaKey)) return event.altKey ? null : key;
  return {z: event.shiftKey ? "y" : "z", y: "y"}[key] ?? null;
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("select, input:not([type=checkbox]):not([type=range])");
  const action = ACTIONS.get(keyOf(event));
  const isOwn = event.target.matches("input[type=range]") && event.key.startsWith("Arrow");
  // Enter and Space press a button that was reached with Tab.
  const isButton = event.target.matches("button") && ["Enter", " "].includes(event.key);
  if (!action || isTyping || isOwn || isButton || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  event.stopPropagation();
  action();
}, true);

// After a click with the mouse they are for the image again.
document.addEventListener("click", (event) => {
  if (event.detail) event.target.closest("button, input[type=checkbox], input[type=range]")?.blur();
});

// For scripts and tests: where a pixel of the image is in the window, a square of the image to look at, and whether all of
// what is to be seen has been drawn.
window.unetbioView = {
  toScreen: (x, y) => layer.toScreen(x, y),
  lookAt: (x, y, size) => viewer.viewport.fitBounds(viewer.world.getItemAt(0).imageToViewportRectangle(x - size / 2, y - size / 2, size, size), true),
  isWhole: () => !layer.isAsked && layer.isWhole && viewer.world.getItemAt(0)?.getFullyLoaded(),
};

// --- Start ------------------------------------------------------------------------------------------------------------

function button(text, key, title, action, tool) {
  const made = Object.assign(document.createElement("button"), {title});
  made.append(text, Object.assign(document.createElement("kbd"), {textContent: key}));
  if (tool) made.dataset.tool = tool;
  made.addEventListener("click", action);
  return made;
}

function showTools() {
  const tools = Object.entries(TOOLS).map(([name, {key, text, hint}]) => button(text, key, hint || "Click a cell; Shift and click adds", () => useTool(name), name));
  $("tools").append(
    ...tools, document.createElement("hr"),
    button("Merge", "m", "Join the selected cells", () => correct("merge")),
    button("Delete", "x", "Remove the selected cells", () => correct("delete")),
    button("Accept", "a", "The selected cells are right", acceptCells),
    document.createElement("hr"),
    button("Next cell", "j", "The cell that the model is least sure of", () => step(1)),
    button("Whole", "f", "The whole image", () => viewer.viewport.goHome()),
  );
  $("keys").querySelector("table").append(...KEYS.map(([key, text, , shown]) => {
    const row = document.createElement("tr");
    row.append(...[shown ?? key, text].map((textContent) => Object.assign(document.createElement("td"), {textContent})));
    return row;
  }));
}

function listen() {
  const clicks = {
    next: goNext, previous: goPrevious, undo: () => change("undo"), redo: () => change("redo"),
    "accept-image": () => acceptImage(true), train: showTraining, help: () => $("keys").showModal(),
    copy: () => navigator.clipboard?.writeText($("training-command").textContent),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
  $("column").addEventListener("change", () => { colour(); showSelected(); $("column").blur(); });
  $("style").addEventListener("change", () => { layer.paint({style: $("style").value}); $("style").blur(); });
  for (const each of $("plane").querySelectorAll("button")) each.addEventListener("click", () => stepPlane(Number(each.dataset.step)));
}

showTools();
listen();
useTool("select");
if (await trying(loadImages) !== null) await openImage(Math.max(0, state.images.findIndex((image) => !isDone(image))));
