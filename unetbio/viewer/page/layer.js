// The cells over the image: tiles of the label image, painted here, so that a new colour needs no new request.

const TILE = 512;
const KEPT = 160;
// From this zoom on outlines are thin lines along the edges of the pixels.
const LINES_FROM = 3;

export class CellLayer {
  // load(plane, level, x, y) gives a promise of the ids of a tile: Uint32Array, with a margin of one pixel.
  constructor(viewer, canvas, load) {
    this.viewer = viewer;
    this.canvas = canvas;
    this.load = load;
    this.tiles = new Map();
    this.size = null;
    this.style = "outline";
    this.colours = new Uint32Array(1);
    this.selected = new Set();
    this.accepted = new Set();
    this.path = null;
    this.painting = 0;
    viewer.addHandler("update-viewport", () => this.draw());
    viewer.addHandler("resize", () => this.draw());
  }

  open(size) {
    this.size = size;
    this.generation = (this.generation ?? 0) + 1;
    this.tiles.clear();
    this.maxLevel = Math.max(0, Math.ceil(Math.log2(Math.max(size.width, size.height) / TILE)));
    this.draw();
  }

  show(plane) {
    this.plane = plane;
    this.draw();
  }

  // Colours by id as 0xAABBGGRR; ids beyond the end take the last colour.
  paint({colours, selected, accepted, style} = {}) {
    if (colours) this.colours = colours;
    if (selected) this.selected = selected;
    if (accepted) this.accepted = accepted;
    if (style) this.style = style;
    this.painting += 1;
    this.draw();
  }

  // Pixels of [top, bottom, left, right] have changed: their tiles are loaded again, and seen until then.
  refresh([top, bottom, left, right]) {
    for (const tile of this.tiles.values()) {
      const size = TILE << tile.level;
      const margin = 1 << tile.level;
      const isHit = tile.x * size - margin < right && (tile.x + 1) * size + margin > left
        && tile.y * size - margin < bottom && (tile.y + 1) * size + margin > top;
      if (isHit) tile.isOld = true;
    }
    this.draw();
  }

  // The cell at a pixel of the image, of the finest tile that is loaded; 0 is background.
  idAt(x, y) {
    if (!this.size || x < 0 || y < 0 || x >= this.size.width || y >= this.size.height) return 0;
    for (let level = 0; level <= this.maxLevel; level++) {
      const column = Math.floor(x / 2 ** level), row = Math.floor(y / 2 ** level);
      const tile = this.tiles.get(`${this.plane}/${level}/${Math.floor(column / TILE)}_${Math.floor(row / TILE)}`);
      if (tile?.ids) return tile.ids[(row - tile.top) * tile.width + column - tile.left];
    }
    return 0;
  }

  toImage(point) {
    const item = this.viewer.world.getItemAt(0);
    return item ? item.viewportToImageCoordinates(this.viewer.viewport.pointFromPixel(point, true)) : null;
  }

  toScreen(x, y) {
    const item = this.viewer.world.getItemAt(0);
    return this.viewer.viewport.pixelFromPoint(item.imageToViewportCoordinates(x, y), true);
  }

  draw() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => { this.isAsked = false; this.drawNow(); });
  }

  drawNow() {
    const density = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * density), height = Math.round(this.canvas.clientHeight * density);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, {width, height});
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (!this.size || !this.viewer.world.getItemCount() || this.plane === undefined) return;
    const origin = this.toScreen(0, 0), end = this.toScreen(this.size.width, 0);
    const zoom = (end.x - origin.x) * density / this.size.width;
    const view = {x: origin.x * density, y: origin.y * density, zoom, width, height};
    context.imageSmoothingEnabled = false;
    if (this.style !== "none") {
      const level = Math.min(this.maxLevel, Math.max(0, Math.floor(Math.log2(1 / zoom) + 0.01)));
      // A coarser tile stands in for one that is being loaded.
      this.setLined(zoom >= LINES_FROM * density);
      this.isWhole = this.drawLevel(context, view, level);
      if (!this.isWhole) {
        context.clearRect(0, 0, width, height);
        for (let coarse = this.maxLevel; coarse >= level; coarse--) this.drawLevel(context, view, coarse, coarse > level);
      }
    }
    if (this.style !== "none" && zoom >= LINES_FROM * density) this.drawLines(context, view, density);
    this.drawPath(context, view, density);
  }

  // Outlines of what is seen, within the pixels of each cell, so that those of two cells lie beside each other.
  drawLines(context, {x, y, zoom, width, height}, density) {
    const paths = new Map();
    const inset = density;
    const stop = (at, size, count) => Math.min(count, Math.ceil((size - at) / zoom));
    for (let row = Math.max(0, Math.floor(-y / zoom)); row < stop(y, height, this.size.height); row++) {
      for (let column = Math.max(0, Math.floor(-x / zoom)); column < stop(x, width, this.size.width); column++) {
        const id = this.idAt(column, row);
        if (!id) continue;
        const left = x + column * zoom, right = left + zoom, top = y + row * zoom, bottom = top + zoom;
        const line = (x0, y0, x1, y1) => { const path = this.pathOf(paths, id); path.moveTo(x0, y0); path.lineTo(x1, y1); };
        if (this.idAt(column, row - 1) !== id) line(left, top + inset, right, top + inset);
        if (this.idAt(column, row + 1) !== id) line(left, bottom - inset, right, bottom - inset);
        if (this.idAt(column - 1, row) !== id) line(left + inset, top, left + inset, bottom);
        if (this.idAt(column + 1, row) !== id) line(right - inset, top, right - inset, bottom);
      }
    }
    context.lineWidth = 2 * density;
    for (const [colour, path] of paths) {
      context.strokeStyle = colour;
      context.stroke(path);
    }
  }

  pathOf(paths, id) {
    const colour = this.selected.has(id) ? 0xffffffff : this.colours[Math.min(id, this.colours.length - 1)];
    const alpha = this.accepted.has(id) && !this.selected.has(id) ? 0.4 : 1;
    const style = `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255} / ${alpha})`;
    if (!paths.has(style)) paths.set(style, new Path2D());
    return paths.get(style);
  }

  setLined(isLined) {
    if (isLined !== this.isLined) this.painting += 1;
    this.isLined = isLined;
  }

  // Whether all tiles are there.
  drawLevel(context, view, level, onlyLoaded = false) {
    const scale = view.zoom * 2 ** level;
    const columns = Math.ceil(this.size.width / 2 ** level), rows = Math.ceil(this.size.height / 2 ** level);
    const clip = (at, count) => Math.min(Math.max(Math.floor(at / scale / TILE), 0), Math.ceil(count / TILE) - 1);
    let isWhole = true;
    for (let y = clip(-view.y, rows); y <= clip(view.height - view.y, rows); y++) {
      for (let x = clip(-view.x, columns); x <= clip(view.width - view.x, columns); x++) {
        const tile = this.tile(level, x, y, onlyLoaded);
        if (!tile?.ids) { isWhole = false; continue; }
        this.paintTile(tile);
        const left = Math.round(view.x + x * TILE * scale), top = Math.round(view.y + y * TILE * scale);
        const right = Math.round(view.x + (x * TILE + tile.canvas.width) * scale);
        const bottom = Math.round(view.y + (y * TILE + tile.canvas.height) * scale);
        context.drawImage(tile.canvas, left, top, right - left, bottom - top);
      }
    }
    return isWhole;
  }

  tile(level, x, y, onlyLoaded) {
    const key = `${this.plane}/${level}/${x}_${y}`;
    let tile = this.tiles.get(key);
    if (!tile && !onlyLoaded) tile = this.addTile(key, level, x, y);
    if (!tile) return null;
    // The last in the map was used last.
    this.tiles.delete(key);
    this.tiles.set(key, tile);
    if (tile.isOld && !tile.isLoading && !onlyLoaded) this.loadTile(tile);
    return tile;
  }

  addTile(key, level, x, y) {
    const columns = Math.ceil(this.size.width / 2 ** level), rows = Math.ceil(this.size.height / 2 ** level);
    const left = Math.max(0, x * TILE - 1), right = Math.min(columns, (x + 1) * TILE + 1);
    const top = Math.max(0, y * TILE - 1), bottom = Math.min(rows, (y + 1) * TILE + 1);
    const tile = {plane: this.plane, level, x, y, left, top, width: right - left, height: bottom - top, isOld: true};
    this.tiles.set(key, tile);
    if (this.tiles.size > KEPT) this.tiles.delete(this.tiles.keys().next().value);
    return tile;
  }

  async loadTile(tile) {
    const generation = this.generation;
    tile.isLoading = true;
    tile.isOld = false;
    try {
      const ids = await this.load(tile.plane, tile.level, tile.x, tile.y);
      if (generation !== this.generation) return;
      tile.ids = ids;
      tile.painting = -1;
    } catch (error) {
      console.warn(error);
    } finally {
      tile.isLoading = false;
    }
    this.draw();
  }

  paintTile(tile) {
    if (tile.painting === this.painting) return;
    tile.painting = this.painting;
    const width = Math.min(TILE, tile.left + tile.width - tile.x * TILE);
    const height = Math.min(TILE, tile.top + tile.height - tile.y * TILE);
    tile.canvas ??= Object.assign(document.createElement("canvas"), {width, height});
    const context = tile.canvas.getContext("2d");
    const image = context.createImageData(width, height);
    this.fillPixels(new Uint32Array(image.data.buffer), tile, width, height);
    context.putImageData(image, 0, 0);
  }

  fillPixels(pixels, {ids, left, top, x, y, width: stride, height: rows}, width, height) {
    const {colours, selected, accepted, isLined} = this;
    const last = colours.length - 1, isFilled = this.style === "fill";
    const shiftX = x * TILE - left, shiftY = y * TILE - top;
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const at = (row + shiftY) * stride + column + shiftX;
        const id = ids[at];
        if (!id) continue;
        const isEdge = !isLined && ((column + shiftX > 0 && ids[at - 1] !== id)
          || (column + shiftX < stride - 1 && ids[at + 1] !== id)
          || (row + shiftY > 0 && ids[at - stride] !== id) || (row + shiftY < rows - 1 && ids[at + stride] !== id));
        const isSelected = selected.size && selected.has(id);
        let colour = isSelected ? 0xffffffff : colours[Math.min(id, last)];
        if (isEdge) pixels[row * width + column] = accepted.size && !isSelected && accepted.has(id) ? (colour & 0xffffff) | 0x60000000 : colour;
        else if (isSelected) pixels[row * width + column] = 0x58ffffff;
        else if (isFilled) pixels[row * width + column] = (colour & 0xffffff) | 0x78000000;
      }
    }
  }

  // What is being drawn: {points, isClosed} in pixels of the image.
  drawPath(context, view, density) {
    if (!this.path || this.path.points.length < 1) return;
    context.lineWidth = 2 * density;
    context.strokeStyle = "#ffe14d";
    context.beginPath();
    for (const [x, y] of this.path.points) context.lineTo(view.x + x * view.zoom, view.y + y * view.zoom);
    if (this.path.isClosed) context.closePath();
    context.stroke();
    if (this.path.isClosed) { context.fillStyle = "#ffe14d30"; context.fill(); }
  }
}
