// The table of the cells of a plane: colours by a column, the histogram that selects, and the rows.

// Its values are names; all other columns hold numbers.
export const CLASS = "class";
const UNKNOWN = "#aaaaaa";
const GROUND = "#363b41";
const BINS = 40;
const SHOWN_ROWS = 200;
// Not in the row of a cell: its number is the title, its confidence the first line.
const UNSEEN = /^(label|confidence|bbox_.*)$/;
const VIRIDIS = ["#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const DISTINCT = ["#ffd24a", "#5fd0ff", "#ff7ab8", "#8be36b", "#ff9d5c", "#b69cff", "#4fe0c0", "#f2f27a"];
const NAMES = {
  confidence: "confidence", area_px: "area (px)", area_um2: "area (µm²)", volume_px: "volume (px)", volume_um3: "volume (µm³)",
  perimeter_px: "perimeter (px)", equivalent_diameter_px: "diameter (px)", touches_border: "touches border",
  centroid_y_px: "y (px)", centroid_x_px: "x (px)", centroid_z_px: "z (px)",
};

const byName = (name) => NAMES[name] ?? name.replaceAll("_", " ");
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

function shade(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [from, to] = [rgb(VIRIDIS[low]), rgb(VIRIDIS[low + 1])];
  return from.map((value, channel) => Math.round(value + (to[channel] - value) * (at - low)));
}

export function format(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);
}

export class CellTable {
  constructor() {
    this.read({});
  }

  // classes: the colour of each class of cells by its name, in the order in which they are shown.
  read(columns, classes = {}) {
    this.columns = columns;
    this.classes = classes;
    this.ids = columns.label ?? [];
    this.rowOf = new Map(this.ids.map((id, row) => [id, row]));
  }

  // Cells that are gone, until the rows are read anew.
  forget(ids) {
    const gone = new Set(ids);
    this.ids = this.ids.filter((id) => !gone.has(id));
    gone.forEach((id) => this.rowOf.delete(id));
  }

  // Columns that cells can be coloured by.
  get names() {
    const isKnown = (value) => typeof value === "number" || typeof value === "boolean";
    return Object.keys(this.columns).filter((name) => name === CLASS || (name !== "label" && this.columns[name].some(isKnown)));
  }

  value(name, id) {
    const row = this.rowOf.get(id);
    return row === undefined ? null : this.columns[name]?.[row] ?? null;
  }

  // Where the smallest and the largest colour lie; a few far values do not squeeze all others into one colour.
  limits(name) {
    const values = this.columns[name].filter((value) => value !== null).map(Number).sort((a, b) => a - b);
    const at = (share) => values[Math.round(share * (values.length - 1))];
    const [low, high] = [at(0.005), at(0.995)];
    if (low < high) return [low, high];
    // Values that are all equal get a width, too, which has to be large enough to change a large number.
    const first = values[0] ?? 0, last = values.at(-1) ?? 0;
    return [first, last > first ? last : first + (Math.abs(first) || 1)];
  }

  // 0xAABBGGRR by id. Without a column neighbours get different colours, also before the rows are read.
  colours(name) {
    const largest = this.ids.reduce((a, b) => Math.max(a, b), this.ids.length ? 0 : 65535);
    const colours = new Uint32Array(largest + 2);
    if (!name || !this.columns[name]) {
      const distinct = DISTINCT.map((hex) => packed(rgb(hex)));
      for (let id = 0; id < colours.length; id++) colours[id] = distinct[(id * 5) % distinct.length];
      return colours;
    }
    colours.fill(packed(rgb(UNKNOWN)));
    if (name === CLASS) {
      for (const id of this.ids) colours[id] = packed(rgb(this.classes[this.value(name, id)] ?? UNKNOWN));
      return colours;
    }
    const [low, high] = this.limits(name);
    for (const id of this.ids) {
      const value = this.value(name, id);
      if (value !== null) colours[id] = packed(shade((Number(value) - low) / (high - low)));
    }
    return colours;
  }

  ofClass(name) {
    return this.ids.filter((id) => this.value(CLASS, id) === name);
  }

  // Gives the bar of a value in the histogram; the bars at the ends hold all that lies beyond them.
  bars(name) {
    const [low, high] = this.limits(name);
    return (value) => Math.min(BINS - 1, Math.max(0, Math.floor((Number(value) - low) / (high - low) * BINS)));
  }

  // Cells in some bars of the histogram; the bar `stop` is not one of them.
  inBars(name, first, stop) {
    const barOf = this.bars(name);
    return this.ids.filter((id) => {
      const value = this.value(name, id), bar = value === null ? -1 : barOf(value);
      return bar >= first && bar < stop;
    });
  }

  // The cells that are not accepted, the least sure first; those without a confidence last.
  doubtful(accepted) {
    const sure = (id) => this.value("confidence", id) ?? 2;
    return this.ids.filter((id) => !accepted.has(id)).sort((a, b) => sure(a) - sure(b) || a - b);
  }
}

export class Histogram {
  // select(first, stop) is called with numbers of bars while a person draws across the bars.
  constructor(canvas, select) {
    this.canvas = canvas;
    this.from = null;
    const share = (event) => {
      const box = canvas.getBoundingClientRect();
      return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.name) return;
      canvas.setPointerCapture(event.pointerId);
      this.from = share(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.from === null) return;
      // Whole bars.
      const at = share(event), first = Math.min(BINS - 1, Math.floor(Math.min(this.from, at) * BINS));
      this.range = [first, Math.max(first + 1, Math.ceil(Math.max(this.from, at) * BINS))];
      this.draw();
    });
    canvas.addEventListener("pointerup", () => {
      if (this.from === null) return;
      this.from = null;
      if (this.range) select(...this.range);
    });
  }

  show(table, name) {
    this.table = table;
    this.name = table.columns[name] && name !== CLASS ? name : null;
    // Bars that are being drawn across are no longer there.
    this.from = this.range = null;
    this.draw();
  }

  draw() {
    const {canvas} = this, context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    canvas.hidden = !this.name;
    if (!this.name) return;
    const barOf = this.table.bars(this.name), counts = new Array(BINS).fill(0);
    for (const value of this.table.columns[this.name]) {
      if (value !== null) counts[barOf(value)] += 1;
    }
    const most = Math.max(...counts, 1), width = canvas.width / BINS;
    if (this.range) {
      context.fillStyle = GROUND;
      context.fillRect(this.range[0] * width, 0, (this.range[1] - this.range[0]) * width, canvas.height);
    }
    counts.forEach((count, bin) => {
      const height = count ? Math.max(3, count / most * (canvas.height - 6)) : 0;
      context.fillStyle = `rgb(${shade((bin + 0.5) / BINS).join()})`;
      context.fillRect(bin * width + 1, canvas.height - height, width - 2, height);
    });
  }
}

function cellsOf(tag, values) {
  const row = document.createElement("tr");
  for (const value of values) row.append(Object.assign(document.createElement(tag), {textContent: value}));
  return row;
}

// The row of one cell in full, or a line for each of several.
export function showRows(element, table, ids, column, go) {
  element.replaceChildren();
  const title = document.createElement("h2");
  const list = document.createElement("table");
  element.append(title, list);
  element.hidden = !ids.length;
  if (ids.length === 1) {
    title.textContent = `Cell ${ids[0]}`;
    for (const name of ["confidence", ...Object.keys(table.columns).filter((each) => !UNSEEN.test(each))]) {
      const value = format(table.value(name, ids[0]));
      if (value) list.append(cellsOf("td", [byName(name), value]));
    }
    return;
  }
  const name = table.columns[column] ? column : table.columns.area_px ? "area_px" : "volume_px";
  const number = (id) => table.value(name, id) ?? Infinity, text = (id) => String(table.value(name, id) ?? "");
  const ordered = [...ids].sort(name === CLASS ? (a, b) => text(a).localeCompare(text(b)) : (a, b) => number(a) - number(b));
  title.textContent = `${ids.length} cells selected` + (ids.length > SHOWN_ROWS ? `, ${SHOWN_ROWS} shown` : "");
  list.append(cellsOf("th", ["cell", byName(name)]));
  for (const id of ordered.slice(0, SHOWN_ROWS)) {
    const row = cellsOf("td", [id, format(table.value(name, id))]);
    row.dataset.cell = id;
    row.addEventListener("click", () => go(id));
    list.append(row);
  }
}

// A line for each class, which selects its cells.
export function showClasses(element, table, select) {
  element.replaceChildren();
  const counted = [...Object.entries(table.classes), [null, UNKNOWN]].map(([name, colour]) => [name, colour, table.ofClass(name)]);
  for (const [name, colour, ids] of counted.filter(([each, , found]) => each !== null || found.length)) {
    const button = document.createElement("button"), swatch = document.createElement("i");
    swatch.style.background = colour;
    const count = Object.assign(document.createElement("span"), {className: "quiet", textContent: ids.length});
    button.append(swatch, name ?? "without a class", count);
    button.title = "select its cells";
    button.addEventListener("click", () => select(table.ofClass(name)));
    element.append(button);
  }
}

// Classes are what one looks for first, where cells have them.
export function fillColumns(select, names) {
  const before = select.options.length ? select.value : CLASS;
  const option = (value, text) => Object.assign(document.createElement("option"), {value, textContent: text});
  select.replaceChildren(option("", "each cell apart"), ...names.map((name) => option(name, byName(name))));
  select.value = names.includes(before) ? before : "";
}
