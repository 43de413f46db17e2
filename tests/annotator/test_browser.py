"""The page in a real browser: what is drawn is what lies on the disk."""

import numpy as np
import pytest
from scipy import ndimage

from data.mask_files import read_annotation, save_mask
from tests.helpers.annotating import CLASSES, SIDE, Script, wait_until, write_drawn
from tests.helpers.browser import open_browser

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

SAVED = "document.querySelector('#status').dataset.kind === 'good'"
WITH_COPIER = """
from functools import partial
from annotator.options import AnnotatorOptions
from dnnlib.command import command, lazy
load = lazy("tests.helpers.annotating:load_copier")
command(AnnotatorOptions, partial(lazy("annotator.jobs:prepare"), load_interpreter=load))()
"""
# Pairs of a text's contrast with what is behind it, and the text.
CONTRASTS = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (element) => {
    const colour = parse(getComputedStyle(element).backgroundColor);
    return colour.length > 3 && colour[3] < 0.5 ? behind(element.parentElement) : colour;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!hasText || !element.checkVisibility() || element.closest(":disabled")) continue;
    const pair = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), element.textContent]);
  }
  return found;
})()
"""
# Buttons and inputs that say nothing to a screen reader.
NAMELESS = """
[...document.querySelectorAll("button, input, a, canvas")].filter((e) => e.checkVisibility() &&
  !e.textContent.trim() && !e.ariaLabel && !e.closest("label")).map((e) => e.outerHTML)
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def session_of(browser):
    """Start a session; its server ends with the test."""
    sessions = []

    def start(*arguments, **changes):
        sessions.append(Session(browser, *arguments, **changes))
        return sessions[0]

    yield start
    for session in sessions:
        session.script.kill()


class Session:
    """The page of a folder, as one who annotates sees it."""

    def __init__(self, page, folder, *arguments, **changes):
        self.page, self.folder = page, folder
        self.arguments, self.changes = arguments, changes
        self.start()

    def start(self, width=1280):
        arguments = self.arguments or ("--drawn", self.folder / "drawn", "--port=0")
        self.script = Script(*arguments, **self.changes)
        self.port = self.script.address.split("/")[2].rpartition(":")[2]
        self.open(width)

    def open(self, width=1280):
        """Load the page, also anew."""
        self.page.visit("about:blank", width)
        self.page.visit(self.script.address, width)
        self.page.value("import('./main.js').then((module) => (window.module = module)), 0")
        self.page.wait_for("window.module && document.querySelector('#images [aria-current]')")

    def at(self, *points):
        """Return where points of the image are in the window."""
        return [self.page.value(f"module.view.toScreen([{x}, {y}])") for x, y in points]

    def size(self, value):
        """Move the slider."""
        self.page.value(
            f"(s => (s.value = {value}, s.dispatchEvent(new Event('input'))))"
            "(document.querySelector('#size')), 0"
        )

    def stroke(self, points):
        self.page.value("document.querySelector('#status').dataset.kind = '', 0")
        self.page.drag(self.at(*points))
        self.page.wait_for(SAVED)

    def keys(self, *keys):
        self.page.value("document.querySelector('#status').dataset.kind = '', 0")
        self.page.press(*keys)
        self.page.wait_for(SAVED)

    def disk(self, number, folder="drafts"):
        return read_annotation(
            self.folder / "annotations" / folder / f"image_{number}_mask.png", CLASSES
        )


def near_line(points, radius):
    """Pixels no farther than a radius from lines between points, in numbers of pixels."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    is_near = np.zeros([SIDE, SIDE], bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        for share in np.linspace(0, 1, 4001):
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            is_near |= (columns - x) ** 2 + (rows - y) ** 2 <= radius**2 + 1e-6
    return is_near


def centres(points):
    return [(x + 0.5, y + 0.5) for x, y in points]


def test_strokes_undo_reload_and_a_killed_server(session_of, browser, tmp_path):
    session = session_of(write_drawn(tmp_path))
    assert session.page.value("module.view.size") == [SIDE, SIDE]
    expected = np.zeros([SIDE, SIDE], np.uint8)

    line = [(3, 4), (15, 9), (12, 20)]
    browser.press("b", "1")
    session.size(5)
    session.stroke(centres(line))
    expected[near_line(line, 2.5)] = 1
    assert np.array_equal(session.disk(2), expected)

    browser.press("2")
    session.size(1)
    thin = [(20, 2), (5, 2)]
    session.stroke(centres(thin))
    expected[near_line(thin, 0.5)] = 2
    assert np.array_equal(session.disk(2), expected)
    before_eraser = expected.copy()

    browser.press("e")
    session.size(4)
    session.stroke([(13, 8), (13, 14)])
    expected[near_line([(12.5, 7.5), (12.5, 13.5)], 2)] = 0
    assert np.array_equal(session.disk(2), expected)

    session.keys("Control+z")
    assert np.array_equal(session.disk(2), before_eraser)
    session.keys("Control+y")
    assert np.array_equal(session.disk(2), expected)
    session.open()
    assert np.array_equal(session.disk(2), expected)

    browser.press("b", "3")
    session.size(3)
    session.script.kill()
    spot = [(20, 20)]
    browser.drag(session.at(*centres(spot)))
    browser.wait_for("document.querySelector('#status').dataset.kind === 'bad'")
    assert np.array_equal(session.disk(2), expected)
    session.arguments = ("--drawn", session.folder / "drawn", "--port", session.port)
    session.start()
    browser.wait_for(SAVED)
    expected[near_line(spot, 1.5)] = 3
    assert np.array_equal(session.disk(2), expected)

    browser.press("d")
    browser.wait_for("document.querySelector('#images [value=\"2\"]').dataset.state === 'done'")
    assert np.array_equal(session.disk(2, "."), expected)
    assert browser.errors(allowed=(session.script.address, "about:")) == []
    assert session.script.stop() == 0


def test_polygon_fill_mirror_lock_keyboard_and_fingers(session_of, browser, tmp_path):
    session = session_of(write_drawn(tmp_path))
    expected = np.zeros([SIDE, SIDE], np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]

    browser.press("p", "1")
    for point in session.at((4.2, 4.2), (18.3, 4.2), (4.2, 18.3)):
        browser.drag([point])
    session.keys("Enter")
    # Centres below the diagonal x + y = 22.5.
    expected[(columns >= 4) & (rows >= 4) & (columns + rows + 1 < 22.5)] = 1
    assert np.array_equal(session.disk(2), expected)

    browser.press("f", "3")
    session.stroke([(22.5, 22.5)])
    outside, _ = ndimage.label(expected == 0)
    expected[outside == outside[22, 22]] = 3
    assert np.array_equal(session.disk(2), expected)

    browser.press("b", "1", "l", "m")  # the triangle is locked, strokes are mirrored
    session.size(3)
    line = [(2, 12), (9, 12)]
    session.stroke(centres(line))
    is_line = near_line(line, 1.5)
    is_free = expected != 1
    expected[is_line & is_free] = 1
    expected[is_line[:, ::-1] & is_free] = 2
    assert np.array_equal(session.disk(2), expected)
    browser.press("l", "m")

    session.size(1)
    browser.press("Home", "2")
    browser.value("document.querySelector('#stage').focus(), 0")
    browser.press("ArrowUp", "ArrowLeft")  # from where the mouse was
    session.keys(" ")
    expected[11, 8] = 2
    assert np.array_equal(session.disk(2), expected)

    browser.press("v", "v")  # both images: a stroke stays in the one where it began
    line = [(20, 5), (30, 5)]
    session.stroke(centres(line))
    expected[near_line(line, 0.5) & (expected != 1)] = 2
    assert np.array_equal(session.disk(2), expected)
    browser.press("v", "v", "v")

    one, two = session.at((3.5, 20.5), (8.5, 20.5))
    browser.value("document.querySelector('#status').dataset.kind = '', 0")
    browser.touch([one], [two], [])
    browser.wait_for(SAVED)
    expected[20, 3:9] = 2
    assert np.array_equal(session.disk(2), expected)
    scale = browser.value("module.view.scale")
    middle = session.at((12, 12))[0]
    apart = [middle[0] + 60, middle[1]]
    browser.touch([middle, apart], [middle, [apart[0] + 60, apart[1]]], [])
    assert browser.value("module.view.scale") > 1.5 * scale
    assert np.array_equal(session.disk(2), expected)


def test_the_interpreter_suggests_and_is_corrected(session_of, browser, tmp_path):
    folder = write_drawn(tmp_path, count=4)
    (folder / "generate.json").write_text("{}")
    session = session_of(folder, "--exp", folder, "--port=0", code=WITH_COPIER)
    for number in (2, 0):  # the second one is finished while the first is learnt
        browser.wait_for(f"location.hash === '#{number}'")
        browser.press("b", "1")
        session.size(9)
        session.stroke([(12, 12)])
        browser.press("d")
    record = folder / "annotations" / "suggestions" / "record.json"
    wait_until(lambda: record.is_file() and '"trained_on": 2' in record.read_text())
    first = session.disk(0, ".")
    browser.wait_for("document.querySelector('#suggestion').ariaPressed === 'true'")
    wait_until(lambda: browser.value("document.querySelector('#train').textContent") == "Train")
    number = browser.value("location.hash.slice(1)")
    browser.press("u")
    session.keys("a")
    assert np.array_equal(session.disk(number), first)
    browser.press("3")
    session.size(1)
    session.stroke([(12.5, 12.5)])
    corrected = first.copy()
    corrected[12, 12] = 3
    assert np.array_equal(session.disk(number), corrected)
    browser.press("d")
    browser.wait_for("!document.querySelector('#curve').hidden")
    assert np.array_equal(session.disk(number, "."), corrected)
    assert browser.errors(allowed=(session.script.address, "about:")) == []
    for path in record.parent.glob("*_mask.png"):
        path.unlink()
    session.open()
    browser.wait_for("!document.body.inert")  # without a suggestion that is lost


def test_two_who_paint_and_images_that_change_amid_a_stroke(session_of, browser, tmp_path):
    session = session_of(write_drawn(tmp_path))
    drafts = tmp_path / "annotations" / "drafts"
    browser.press("b", "1")
    session.size(3)
    session.stroke([(4.5, 4.5)])
    theirs = np.full([SIDE, SIDE], 3, np.uint8)
    save_mask(drafts / "image_2_mask.png", theirs, CLASSES)
    browser.press("d")
    browser.wait_for("!document.querySelector('#banner').hidden")
    browser.press("PageUp", "d")
    assert browser.value("location.hash") == "#2"
    assert np.array_equal(session.disk(2), theirs)
    click = "document.querySelector('#banner button:nth-of-type({})').click(), 0"
    browser.value(click.format(1))
    browser.wait_for(SAVED)
    mine = np.where(near_line([(4, 4)], 1.5), 1, 0)
    assert np.array_equal(session.disk(2), mine)

    save_mask(drafts / "image_2_mask.png", theirs, CLASSES)
    browser.drag(session.at((12.5, 12.5)))
    browser.wait_for("!document.querySelector('#banner').hidden")
    browser.value(click.format(2))
    browser.wait_for("document.querySelector('#undo').disabled")
    session.stroke([(4.5, 4.5)])
    mine = np.where(near_line([(4, 4)], 1.5), 1, 3)
    assert np.array_equal(session.disk(2), mine)

    start, end = session.at((15.5, 4.5), (20.5, 4.5))
    browser.mouse("mousePressed", start)
    browser.press("PageUp")
    browser.wait_for("location.hash === '#1'")
    browser.mouse("mouseMoved", end)
    browser.mouse("mouseReleased", end)
    browser.wait_for(SAVED)
    mine[near_line([(15, 4)], 1.5)] = 1
    assert np.array_equal(session.disk(2), mine)
    assert browser.value("document.querySelector('#undo').disabled")
    assert not (drafts / "image_1_mask.png").exists()

    session.stroke([(4.5, 4.5)])
    browser.value("dispatchEvent(new KeyboardEvent('keydown', {key: 'd', repeat: true})), 0")
    browser.press("l", "2")
    session.stroke([(15.5, 15.5)])
    session.keys("Delete")  # the locked class stays
    assert np.array_equal(session.disk(1), np.where(near_line([(4, 4)], 1.5), 1, 0))


# The page's modules by themselves, with a server that answers as it is told.
MODULES = """
(async () => {
  const { Saver } = await import("./api.js");
  const { History, Stroke } = await import("./paint.js");
  const found = {};
  const stroke = new Stroke(new Uint8Array(5), 5, { locked: new Set(), mirror: [0, 2, 1] });
  stroke.put([0, 1, 2, 3], 1);
  found.mirrored = [...stroke.mask];

  const [history, mask] = [new History(), new Uint8Array(1 << 16)];
  for (let value = 1; value <= 300; value++) {
    const fill = new Stroke(mask, 1 << 8, { locked: new Set(), mirror: null });
    fill.putAll(new Uint8Array(mask.length).fill(value));
    history.push(fill.change());
  }
  history.undo(mask);
  history.undo(mask);
  history.redo(mask);
  let most = 1;
  found.redone = mask[7];
  while (history.undo(mask)) most++;
  found.remembered = most;

  const [answers, fetchReally] = [[], window.fetch];
  let asked = 0;
  window.fetch = async () => {
    asked++;
    const status = answers.shift() ?? 200;
    if (!status) throw new TypeError("gone");
    return new Response(JSON.stringify({ version: "v", error: "no" }), { status });
  };
  const saver = new Saver("here", () => {});
  const state = async () => {
    await saver.flush();
    return [asked, ...[1, 2].map((number) => saver.recall(number, 4)?.values[0] ?? null)];
  };
  const save = (number, value) => saver.save(number, new Uint8Array(4).fill(value));
  answers.push(0);
  save(1, 5);
  found.gone = await state();
  saver.forget(1); // another tab took it up
  answers.push(404);
  saver.resume();
  found.elsewhere = await state();
  saver.resume();
  found.givenUp = await state();
  answers.push(400);
  save(1, 6);
  found.refused = await state();
  answers.push(409);
  save(2, 7);
  save(2, 8);
  found.conflict = await state();
  found.unfinished = await saver.finish(2, new Uint8Array(4));
  found.foreign = [new Saver("there", () => {}).recall(2, 4), saver.recall(2, 5)];
  saver.settle(2, "w");
  found.settled = await state();
  window.fetch = fetchReally;
  localStorage.clear();
  window.found = found;
})(), 0
"""


def test_masks_that_cannot_be_saved_and_strokes_over_the_middle(session_of, browser, tmp_path):
    session_of(write_drawn(tmp_path))
    browser.value(MODULES)
    browser.wait_for("window.found")
    assert browser.value("window.found") == {
        "mirrored": [1, 1, 1, 1, 2],
        "redone": 299 % 256,
        "remembered": 256,
        "gone": [1, 5, None],
        "elsewhere": [2, None, None],
        "givenUp": [2, None, None],
        "refused": [3, 6, None],
        "conflict": [4, 6, 8],
        "unfinished": None,
        "foreign": [None, None],
        "settled": [5, 6, None],
    }


def test_widths_contrast_and_names(session_of, browser, tmp_path):
    session = session_of(write_drawn(tmp_path))
    for width in (390, 1280):
        session.open(width)
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value("document.documentElement.scrollHeight") <= 900
        box = browser.value("document.querySelector('#stage').getBoundingClientRect().toJSON()")
        assert (box["width"] > 0.6 * width, box["height"] > 250) == (True, True)
        # The interpreter's part is there, too, with all its buttons.
        browser.value("document.querySelector('#assistant').hidden = false, 0")
        browser.value("document.querySelectorAll('button').forEach((b) => (b.disabled = false)), 0")
        assert browser.value(NAMELESS) == []
        assert [pair for pair in browser.value(CONTRASTS) if pair[0] < 4.5] == []
        assert "<b>" in browser.value("document.querySelector('#classes').textContent")
