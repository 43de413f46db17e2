// Masks as arrays of class numbers, a byte a pixel, row by row: which pixels a tool covers, and undo.

/**
 * Centre of a brush in pixel coordinates, where pixel i has its centre at i. Odd sizes lie on
 * pixels, even ones on corners, so that a size is as many pixels wide everywhere.
 */
export function snap(value, size) {
  return size % 2 ? Math.floor(value) : Math.round(value) - 0.5;
}

/** Indices of the pixels within size / 2 of the line between two points [x, y]. */
export function* linePixels([x0, y0], [x1, y1], size, width, height) {
  const [ax, ay, bx, by] = [x0, y0, x1, y1].map((value) => snap(value, size));
  const [dx, dy, radius] = [bx - ax, by - ay, size / 2];
  const length2 = dx * dx + dy * dy;
  const left = Math.max(0, Math.ceil(Math.min(ax, bx) - radius));
  const right = Math.min(width - 1, Math.floor(Math.max(ax, bx) + radius));
  const top = Math.max(0, Math.ceil(Math.min(ay, by) - radius));
  const bottom = Math.min(height - 1, Math.floor(Math.max(ay, by) + radius));
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const along = length2 ? ((x - ax) * dx + (y - ay) * dy) / length2 : 0;
      const share = Math.min(1, Math.max(0, along));
      const [ex, ey] = [x - ax - share * dx, y - ay - share * dy];
      if (ex * ex + ey * ey <= radius * radius + 1e-9) yield y * width + x;
    }
  }
}

/** Indices of the pixels whose centre lies inside a polygon of points [x, y], by even-odd. */
export function* polygonPixels(points, width, height) {
  for (let y = 0; y < height; y++) {
    const crossings = [];
    points.forEach(([x0, y0], k) => {
      const [x1, y1] = points[(k + 1) % points.length];
      const middle = y + 0.5;
      if (y0 <= middle !== y1 <= middle) {
        crossings.push(x0 + ((middle - y0) / (y1 - y0)) * (x1 - x0));
      }
    });
    crossings.sort((a, b) => a - b);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const first = Math.max(0, Math.ceil(crossings[k] - 0.5));
      const last = Math.min(width - 1, Math.ceil(crossings[k + 1] - 0.5) - 1);
      for (let x = first; x <= last; x++) yield y * width + x;
    }
  }
}

/** Indices of the pixels of equal value that hang together with one, by their edges. */
export function connectedPixels(values, start, width, height) {
  const wanted = values[start];
  const seen = new Uint8Array(values.length);
  const found = [start];
  seen[start] = 1;
  for (let k = 0; k < found.length; k++) {
    const [index, x] = [found[k], found[k] % width];
    for (const [next, isInside] of [
      [index - 1, x > 0],
      [index + 1, x < width - 1],
      [index - width, index >= width],
      [index + width, index < width * (height - 1)],
    ]) {
      if (isInside && !seen[next] && values[next] === wanted) {
        seen[next] = 1;
        found.push(next);
      }
    }
  }
  return found;
}

/** What one stroke does to a mask. */
export class Stroke {
  /**
   * @param mask Uint8Array that is changed in place.
   * @param width of the mask.
   * @param rules {locked: Set of classes that stay, mirror: class by class in the mirrored half
   *   of the image, or null}.
   */
  constructor(mask, width, { locked, mirror }) {
    Object.assign(this, { mask, width, locked, mirror, before: mask.slice() });
    this.covered = mirror && new Uint8Array(mask.length); // not only by what is mirrored
  }

  put(pixels, value) {
    for (const index of pixels) {
      this.#set(index, value);
      if (this.mirror) {
        this.covered[index] = 1;
        const x = index % this.width;
        const other = index - x + this.width - 1 - x;
        if (!this.covered[other]) this.#set(other, this.mirror[value]);
      }
    }
  }

  /** Put a value at each pixel. */
  putAll(values) {
    values.forEach((value, index) => this.#set(index, value));
  }

  #set(index, value) {
    if (!this.locked.has(this.before[index])) this.mask[index] = value;
  }

  /** Take the stroke back. */
  cancel() {
    this.mask.set(this.before);
  }

  /** Return what has changed, for History; null for nothing. */
  change() {
    const { mask, before } = this;
    const count = mask.reduce((sum, value, k) => sum + (value !== before[k]), 0);
    if (!count) return null;
    const [indices, differences] = [new Uint32Array(count), new Uint8Array(count)];
    let place = 0;
    mask.forEach((value, k) => {
      if (value === before[k]) return;
      indices[place] = k;
      differences[place++] = value ^ before[k];
    });
    return { indices, differences };
  }
}

const MOST_PIXELS = 1 << 24; // that one history remembers, of 5 bytes each

/** Changes of one mask, to be undone and done again. */
export class History {
  #done = [];
  #undone = [];

  push(change) {
    this.#done.push(change);
    this.#undone = [];
    let room = MOST_PIXELS;
    const first = this.#done.findLastIndex(({ indices }) => (room -= indices.length) < 0);
    this.#done.splice(0, first + 1);
  }

  undo(mask) {
    return this.#move(this.#done, this.#undone, mask);
  }

  redo(mask) {
    return this.#move(this.#undone, this.#done, mask);
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  #move(from, to, mask) {
    const change = from.pop();
    if (!change) return false;
    change.indices.forEach((index, k) => (mask[index] ^= change.differences[k]));
    to.push(change);
    return true;
  }
}
