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

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Saves masks, the newest of an image first and one at a time. What cannot be saved is tried again
 * and kept in the browser, which gives it back when the image is next opened.
 */
export class Saver {
  #waiting = new Map();
  #versions = new Map();
  #running = null;

  /**
   * @param name of the experiment, for what the browser keeps.
   * @param tell called with "saving", "saved", "offline", "conflict" or "refused", and a message
   *   or the image's number.
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

  save(number, mask) {
    this.#waiting.set(number, mask.slice());
    this.#running ??= this.#run();
  }

  /** Wait until everything is on disk. */
  async flush() {
    await this.#running;
  }

  /** Return {values, version} of a mask that the browser kept, or null. */
  recall(number) {
    const kept = JSON.parse(localStorage.getItem(this.#key(number)));
    if (!kept) return null;
    const values = Uint8Array.from(atob(kept.mask), (c) => c.charCodeAt(0));
    return { values, version: kept.version };
  }

  forget(number) {
    localStorage.removeItem(this.#key(number));
  }

  #key(number) {
    return `${this.name}/${number}`;
  }

  #keep(number, mask) {
    const text = Array.from(mask, (value) => String.fromCharCode(value)).join("");
    const kept = { mask: btoa(text), version: this.#versions.get(number) };
    try {
      localStorage.setItem(this.#key(number), JSON.stringify(kept));
    } catch {
      // The browser's room is full; the mask is still in the page, and is tried again.
    }
  }

  async #run() {
    while (this.#waiting.size) {
      const [[number, mask]] = this.#waiting;
      this.tell("saving");
      try {
        const headers = { "If-Match": this.#versions.get(number) };
        const response = await ask(`masks/${number}`, { method: "PUT", body: mask, headers });
        this.note(number, (await response.json()).version);
        this.forget(number);
      } catch (error) {
        this.#keep(number, mask);
        if (error.status === 409) {
          this.#waiting.delete(number);
          this.tell("conflict", number);
          continue;
        }
        const isGone = !error.status || error.status === 404; // or has another token
        this.tell(isGone ? "offline" : "refused", error.message);
        await sleep(1500);
        continue;
      }
      if (this.#waiting.get(number) === mask) this.#waiting.delete(number);
      if (!this.#waiting.size) this.tell("saved");
    }
    this.#running = null;
  }
}
