// The canvas: one or two panes that show the same part of a pair, with the mask over it.

const GRID_FROM = 12; // screen pixels a pixel, from which on pixels have borders
const MOST_ZOOM = 96;

export class View {
  /** @param canvas of the page. */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.center = [0, 0]; // image point in the middle of each pane
    this.scale = 1; // CSS pixels a pixel of the image
    this.isFitted = true;
    this.photos = []; // canvases, one a pane
    this.size = [1, 1]; // width and height of the image
    this.layers = []; // {layer, opacity, isDashed}, over each photo
    this.held = null; // pane in which a stroke is drawn
    this.beforeDraw = () => {}; // brings layers up to date
    this.marks = null; // {point, radius, polygon}: drawn over all
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  resize() {
    this.ratio = window.devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * this.ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * this.ratio);
    if (this.isFitted) this.fit();
    else this.draw();
  }

  /** Show another image or other photos of it. */
  show(photos, [width, height]) {
    const isOther = this.size[0] !== width || this.size[1] !== height;
    const isSplit = photos.length !== this.photos.length;
    this.photos = photos;
    this.size = [width, height];
    if (isOther || (isSplit && this.isFitted)) this.fit();
    else this.draw();
  }

  fit() {
    const [pane] = this.panes();
    const [width, height] = this.size;
    if (!pane || pane.width < 1) return;
    this.scale = Math.min((pane.width - 16) / width, (pane.height - 16) / height);
    this.center = [width / 2, height / 2];
    this.isFitted = true;
    this.draw();
  }

  /** Zoom by a factor around a point of the screen; by default the middle. */
  zoom(factor, at) {
    const point = at ?? this.#middle();
    const fixed = this.toImage(point);
    this.scale = Math.min(MOST_ZOOM, Math.max(0.1, this.scale * factor));
    const moved = this.toImage(point);
    this.pan(moved[0] - fixed[0], moved[1] - fixed[1]);
  }

  /** Move by pixels of the image. */
  pan(dx, dy) {
    const [width, height] = this.size;
    const inside = (value, most) => Math.min(most, Math.max(0, value));
    this.center = [inside(this.center[0] - dx, width), inside(this.center[1] - dy, height)];
    this.isFitted = false;
    this.draw();
  }

  /** Bring a point of the image into sight. */
  reveal([x, y]) {
    const [pane] = this.panes();
    const [halfWidth, halfHeight] = [pane.width / 2 / this.scale, pane.height / 2 / this.scale];
    const [dx, dy] = [x - this.center[0], y - this.center[1]];
    const over = (d, half) => Math.sign(d) * Math.max(0, Math.abs(d) - half + 1);
    if (over(dx, halfWidth) || over(dy, halfHeight)) {
      this.pan(-over(dx, halfWidth), -over(dy, halfHeight));
    }
  }

  /** Stay with the pane at a point of the window until `release`, wherever the pointer goes. */
  hold(point) {
    this.held = this.#paneAt(this.#onCanvas(point));
  }

  release() {
    this.held = null;
  }

  /** Point of the image at a point of the window, in pixels from its upper left corner. */
  toImage(point) {
    const [x, y] = this.#onCanvas(point);
    const pane = this.held ?? this.#paneAt([x, y]);
    return [
      (x - pane.left - pane.width / 2) / this.scale + this.center[0],
      (y - pane.top - pane.height / 2) / this.scale + this.center[1],
    ];
  }

  /** Point of the window where a point of the image is in the first pane. */
  toScreen([x, y]) {
    const box = this.canvas.getBoundingClientRect();
    const [pane] = this.panes();
    return [
      box.left + pane.left + pane.width / 2 + (x - this.center[0]) * this.scale,
      box.top + pane.top + pane.height / 2 + (y - this.center[1]) * this.scale,
    ];
  }

  /** Rectangles of the panes in CSS pixels: beside each other where there is more width. */
  panes() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const count = Math.max(1, this.photos.length);
    const isWide = width * this.size[1] >= height * this.size[0];
    const [w, h] = isWide ? [width / count, height] : [width, height / count];
    return Array.from({ length: count }, (_, k) => ({
      left: isWide ? k * w : 0,
      top: isWide ? 0 : k * h,
      width: w,
      height: h,
    }));
  }

  draw() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      if (this.ratio !== window.devicePixelRatio) this.resize();
      this.beforeDraw();
      this.#draw();
    });
  }

  #onCanvas([clientX, clientY]) {
    const box = this.canvas.getBoundingClientRect();
    return [clientX - box.left, clientY - box.top];
  }

  #paneAt([x, y]) {
    const panes = this.panes();
    return panes.find((p) => x < p.left + p.width && y < p.top + p.height) ?? panes.at(-1);
  }

  #middle() {
    const box = this.canvas.getBoundingClientRect();
    const [pane] = this.panes();
    return [box.left + pane.left + pane.width / 2, box.top + pane.top + pane.height / 2];
  }

  #draw() {
    const { context, scale, ratio } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.panes().forEach((pane, k) => {
      if (!this.photos[k]) return;
      const left = pane.left + pane.width / 2 - this.center[0] * scale;
      const top = pane.top + pane.height / 2 - this.center[1] * scale;
      context.save();
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.beginPath();
      context.rect(pane.left, pane.top, pane.width, pane.height);
      context.clip();
      context.translate(left, top);
      context.scale(scale, scale);
      context.imageSmoothingEnabled = scale < 1;
      context.drawImage(this.photos[k], 0, 0);
      for (const { layer, opacity } of this.layers) {
        context.globalAlpha = opacity;
        context.drawImage(layer.canvas, 0, 0);
      }
      context.globalAlpha = 1;
      if (scale >= GRID_FROM) this.#grid(pane);
      for (const { layer, isDashed } of this.layers) {
        if (!layer.outline) continue;
        if (isDashed) context.setLineDash([5 / scale, 4 / scale]);
        this.#stroke(layer.outline, 2.5, "rgb(0 0 0 / 45%)", 1, "rgb(255 255 255 / 80%)");
        context.setLineDash([]);
      }
      if (this.marks) this.#mark();
      context.restore();
    });
  }

  #grid(pane) {
    const { context, scale, size } = this;
    const range = (middle, length, most) => [
      Math.max(0, Math.floor(middle - length / scale / 2)),
      Math.min(most, Math.ceil(middle + length / scale / 2)),
    ];
    const [left, right] = range(this.center[0], pane.width, size[0]);
    const [top, bottom] = range(this.center[1], pane.height, size[1]);
    context.beginPath();
    for (let x = left; x <= right; x++) {
      context.moveTo(x, top);
      context.lineTo(x, bottom);
    }
    for (let y = top; y <= bottom; y++) {
      context.moveTo(left, y);
      context.lineTo(right, y);
    }
    context.lineWidth = 1 / scale;
    context.strokeStyle = "rgb(0 0 0 / 18%)";
    context.stroke();
  }

  /** Draw what the tool is about to do. */
  #mark() {
    const { point, radius, polygon } = this.marks;
    const unit = 1 / this.scale; // of the screen
    const path = new Path2D();
    if (polygon.length) {
      path.moveTo(...polygon[0]);
      [...polygon.slice(1), ...(point ? [point] : [])].forEach((p) => path.lineTo(...p));
      path.closePath();
      for (const [x, y] of polygon) path.rect(x - 2 * unit, y - 2 * unit, 4 * unit, 4 * unit);
    }
    if (point && radius) {
      path.moveTo(point[0] + radius, point[1]);
      path.arc(...point, radius, 0, 2 * Math.PI);
    } else if (point) {
      const [[x, y], arm] = [point, 8 * unit];
      path.moveTo(x - arm, y);
      path.lineTo(x + arm, y);
      path.moveTo(x, y - arm);
      path.lineTo(x, y + arm);
    }
    this.#stroke(path, 3, "rgb(0 0 0 / 60%)", 1.25, "#fff");
  }

  /** Draw a path twice, dark and wide below light and thin: widths are of the screen. */
  #stroke(path, ...looks) {
    for (let k = 0; k < looks.length; k += 2) {
      this.context.lineWidth = looks[k] / this.scale;
      this.context.strokeStyle = looks[k + 1];
      this.context.stroke(path);
    }
  }
}

/** A canvas that shows numbers a pixel in colours: `colourOf(value)` is [r, g, b, a], 0..255. */
export class Layer {
  constructor(width, height) {
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d");
    this.image = this.context.createImageData(width, height);
    this.outline = null;
  }

  fill(values, colourOf) {
    const table = new Uint32Array(256);
    const bytes = new Uint8Array(table.buffer);
    for (let value = 0; value < 256; value++) bytes.set(colourOf(value), 4 * value);
    const pixels = new Uint32Array(this.image.data.buffer);
    for (let k = 0; k < values.length; k++) pixels[k] = table[values[k]];
    this.context.putImageData(this.image, 0, 0);
  }

  /** Also draw lines between different values, as long as they go straight on. */
  trace(values, width, height) {
    const path = new Path2D();
    const trace = (lines, length, differs, line) => {
      for (let k = 1; k < lines; k++) {
        let start = -1;
        for (let along = 0; along <= length; along++) {
          const isEdge = along < length && differs(k, along);
          if (isEdge && start < 0) start = along;
          if (!isEdge && start >= 0) {
            line(k, start, along);
            start = -1;
          }
        }
      }
    };
    trace(
      width,
      height,
      (x, y) => values[y * width + x] !== values[y * width + x - 1],
      (x, from, to) => (path.moveTo(x, from), path.lineTo(x, to)),
    );
    trace(
      height,
      width,
      (y, x) => values[y * width + x] !== values[(y - 1) * width + x],
      (y, from, to) => (path.moveTo(from, y), path.lineTo(to, y)),
    );
    this.outline = path;
  }
}

/**
 * Return what the views show of a pair: canvases by name, of {modality: decoded image}. The mean and
 * the edges are computed when they are first asked for.
 */
export function photosOf(images, width, height) {
  const canvasOf = (draw) => {
    const canvas = new OffscreenCanvas(width, height);
    draw(canvas.getContext("2d", { willReadFrequently: true }));
    return canvas;
  };
  const photos = {};
  for (const [name, image] of Object.entries(images)) {
    photos[name] = canvasOf((context) => context.drawImage(image, 0, 0, width, height));
  }
  const lazily = (name, draw) => {
    let canvas;
    Object.defineProperty(photos, name, { get: () => (canvas ??= canvasOf(draw)) });
  };
  lazily("blend", (context) => {
    Object.values(images).forEach((image, k) => {
      context.globalAlpha = 1 / (k + 1);
      context.drawImage(image, 0, 0, width, height);
    });
  });
  lazily("edges", (context) => {
    const result = context.createImageData(width, height);
    const tints = [
      [255, 160, 40],
      [0, 95, 215],
    ];
    ["rgb", "nir"].forEach((name, k) => {
      if (!photos[name]) return;
      const edges = edgesOf(photos[name].getContext("2d"), width, height);
      for (let index = 0; index < edges.length; index++) {
        for (let c = 0; c < 3; c++) result.data[4 * index + c] += edges[index] * tints[k][c];
      }
    });
    for (let index = 3; index < result.data.length; index += 4) result.data[index] = 255;
    context.putImageData(result, 0, 0);
  });
  return photos;
}

/** Strength of edges by Sobel's filter, 0..1, where 1 is the strongest of the image. */
function edgesOf(context, width, height) {
  const { data } = context.getImageData(0, 0, width, height);
  const grey = new Float32Array(width * height);
  for (let k = 0; k < grey.length; k++) {
    grey[k] = 0.299 * data[4 * k] + 0.587 * data[4 * k + 1] + 0.114 * data[4 * k + 2];
  }
  const strength = new Float32Array(width * height);
  let most = 1;
  for (let y = 0; y < height; y++) {
    const [above, row, below] = [-1, 0, 1].map(
      (d) => Math.min(height - 1, Math.max(0, y + d)) * width,
    );
    for (let x = 0; x < width; x++) {
      const [left, right] = [Math.max(0, x - 1), Math.min(width - 1, x + 1)];
      const leftColumn = grey[above + left] + 2 * grey[row + left] + grey[below + left];
      const rightColumn = grey[above + right] + 2 * grey[row + right] + grey[below + right];
      const top = grey[above + left] + 2 * grey[above + x] + grey[above + right];
      const bottom = grey[below + left] + 2 * grey[below + x] + grey[below + right];
      const value = Math.hypot(rightColumn - leftColumn, bottom - top);
      strength[row + x] = value;
      if (value > most) most = value;
    }
  }
  return strength.map((value) => value / most);
}
