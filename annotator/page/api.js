// What the page asks the server, and the saving of masks that survives its end.

async function ask(path, options) {
  const response = await fetch(`api/${path}`, options);
  if (!response.ok) {
    const content = await response.json().catch(() => ({}));
    throw Object.assign(new Error(content.error ?? response.statusText), {
      status: response.status,
    });
  }
  return response;
}

export const getState = async () => (await ask("state")).json();
export const post = async (path) => (await ask(path, { method: "POST" })).json();

/** Return an image file, decoded. */
export async function getImage(number, modality) {
  const image = new Image();
  image.src = `api/images/${number}/${modality}`;
  await image.decode();
  return image;
}

/** Return a mask's numbers and its version. */
export async function getMask(number) {
  const response = await ask(`masks/${number}`);
  const values = new Uint8Array(await response.arrayBuffer());
  return { values, version: response.headers.get("ETag") };
}

/** Return suggested classes, and uncertainty where 255 is the most. */
export async function getSuggestion(number) {
  const bytes = new Uint8Array(await (await ask(`suggestions/${number}`)).arrayBuffer());
  const half = bytes.length / 2;
  return { labels: bytes.subarray(0, half), uncertainty: bytes.subarray(half) };
}

export async function getSuperpixels(number, count) {
  const response = await ask(`superpixels/${number}?count=${count}`);
  const view = new DataView(await response.arrayBuffer());
  return Uint16Array.from({ length: view.byteLength / 2 }, (_, k) => view.getUint16(2 * k, true));
}

/**
 * Saves masks, the newest of an image and one at a time. What cannot be saved is kept in the
 * browser, which gives it back when the image is next opened.
 */
export class Saver {
  #waiting = new Map();
  #unsaved = new Set(); // numbers; some of them are given up and kept
  #versions = new Map();
  #kept = new WeakSet(); // masks; another tab may have taken one up, which is not kept again
  #running = null;
  /** Masks of images that were changed elsewhere, until somebody decides. */
  conflicts = new Map();

  /**
   * @param name of the annotations' folder, for what the browser keeps.
   * @param tell called with "saving", "saved", "offline", "conflict" or "refused", and a message.
   */
  constructor(name, tell) {
    this.name = name;
    this.tell = tell;
    addEventListener("pagehide", () => this.#waiting.forEach((mask, k) => this.#keep(k, mask)));
  }

  /** Note what is on disk; a mask is saved only over this version. */
  note(number, version) {
    this.#versions.set(number, version);
  }

  /** Tell whether a mask on disk is the one that this page saved or loaded last. */
  isKnown(number, version) {
    return this.#versions.get(number) === version && !this.#unsaved.has(number);
  }

  save(number, mask) {
    this.#unsaved.add(number);
    if (this.conflicts.has(number)) {
      this.dispute(number, mask.slice());
      return;
    }
    this.#waiting.set(number, mask.slice());
    this.resume();
  }

  /** Try to save what waits. */
  resume() {
    this.#running ??= this.#run().finally(() => (this.#running = null));
  }

  /** Wait until everything is on disk or kept in the browser. */
  async flush() {
    await this.#running;
  }

  /** Finish a mask; return the server's state, or null where it could not be saved. */
  async finish(number, mask) {
    await this.flush();
    if (this.#unsaved.has(number) || this.conflicts.has(number)) return null;
    try {
      const headers = { "If-Match": this.#versions.get(number) };
      return await (await ask(`masks/${number}/done`, { method: "POST", headers })).json();
    } catch (error) {
      if (error.status !== 409) throw error;
      this.dispute(number, mask.slice());
      return null;
    }
  }

  /** Keep a mask until somebody decides between it and the file. */
  dispute(number, mask) {
    this.conflicts.set(number, mask);
    this.#keep(number, mask);
    this.tell("conflict");
  }

  /** End a conflict and return its mask, which is saved over a version, or else dropped. */
  settle(number, version) {
    const mask = this.conflicts.get(number);
    this.conflicts.delete(number);
    this.forget(number);
    if (version) {
      this.note(number, version);
      this.save(number, mask);
    }
    return mask;
  }

  /** Return {values, version} of a mask of this length that the browser kept, or null. */
  recall(number, length) {
    const kept = JSON.parse(localStorage.getItem(this.#key(number)));
    if (!kept) return null;
    const values = Uint8Array.from(atob(kept.mask), (c) => c.charCodeAt(0));
    this.#kept.add(values);
    return values.length === length ? { values, version: kept.version } : null;
  }

  forget(number) {
    this.#unsaved.delete(number);
    localStorage.removeItem(this.#key(number));
  }

  #key(number) {
    return `${this.name}/${number}`;
  }

  /** Return whether a mask is kept; the browser's room may be full. */
  #keep(number, mask) {
    if (this.#kept.has(mask)) return true;
    const text = Array.from(mask, (value) => String.fromCharCode(value)).join("");
    const kept = { mask: btoa(text), version: this.#versions.get(number) };
    try {
      localStorage.setItem(this.#key(number), JSON.stringify(kept));
    } catch {
      return false;
    }
    this.#kept.add(mask);
    return true;
  }

  async #run() {
    while (this.#waiting.size) {
      const [[number, mask]] = this.#waiting;
      this.tell("saving");
      try {
        const headers = { "If-Match": this.#versions.get(number) };
        const response = await ask(`masks/${number}`, { method: "PUT", body: mask, headers });
        this.note(number, (await response.json()).version);
      } catch (error) {
        const { status, message } = error;
        const newest = this.#waiting.get(number);
        const isKept = this.#keep(number, newest);
        if (status === 409) {
          this.#waiting.delete(number);
          this.dispute(number, newest);
          continue;
        }
        const isGone = !status || status === 404; // or has another token
        if (isKept) this.tell(isGone ? "offline" : "refused", message);
        else this.tell("refused", "the browser has no room for it; do not close this page");
        if (!isKept || !status || status >= 500) return; // tried again later
        this.#waiting.delete(number);
        continue;
      }
      if (this.#waiting.get(number) !== mask) continue;
      this.#waiting.delete(number);
      this.forget(number);
      if (!this.#waiting.size) this.tell("saved");
    }
  }
}
