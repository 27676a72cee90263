"""report.html in Chromium, as it is read: nothing complains, nothing is cut off, and the plots answer the pointer."""

from __future__ import annotations

import numpy as np
import pytest
from chromium import NAMES, Chromium, find

import xpnet
from xpnet import run
from xpnet.config import Config
from xpnet.task import prepare

PROGRAM = find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(NAMES)} is on the PATH")

EVIL = "</script><script>document.title='no'</script>"
DRAWN = "window.Bokeh && Bokeh.documents.length === 1 && Bokeh.documents[0].is_idle"

CUT_OFF = """
[...document.querySelectorAll("body *")].filter((element) => {
  const width = getComputedStyle(element).display === "inline" ? 0 : element.clientWidth;
  return element.getBoundingClientRect().right > innerWidth + 1 || (width && element.scrollWidth > width + 1);
}).map((element) => `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 30)}`)
"""

TOLD = """
(() => {
  const found = [];
  const look = (node) => node.querySelectorAll("*").forEach((element) => {
    if (element.classList.contains("bk-Tooltip")) found.push(element.shadowRoot.textContent);
    if (element.shadowRoot) look(element.shadowRoot);
  });
  look(document);
  return found.join(" ").replace(/\\s+/g, " ").trim();
})()
"""
"""What stands in the tooltips that are shown."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Chromium(PROGRAM, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Reports of images, of columns with hostile classes, and of numbers."""
    folder = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    np.savez(
        folder / "classes.npz", X=x, y=np.array([EVIL, "a class"])[(x[:, 0] + rng.normal(size=200) > 0).astype(int)]
    )
    np.savez(folder / "numbers.npz", X=x, y=x[:, 0] * 12345)
    found = {}
    for name, data in {
        "images": "digits",
        "classes": folder / "classes.npz",
        "numbers": folder / "numbers.npz",
    }.items():
        config = Config(data=(str(data),), epochs=8, plot=False, quiet=True, out=str(folder / name))
        run.run(prepare(config, xpnet.device("cpu")))
        found[name] = folder / name / "report.html"
    return found


@pytest.fixture
def shown(chromium, pages):
    """Show a report, its plots drawn; nothing may have been complained of in the end, nor asked for outside."""

    def show(name, **how):
        chromium.open(pages[name], **how)
        chromium.until(DRAWN)
        return chromium

    yield show
    assert chromium.complaints == []
    assert chromium.requests == []


def place_of(page, plot):
    """(left, top, width, height) of a plot on the screen, after it was scrolled there."""
    element = f"document.querySelectorAll('.plot')[{plot}]"
    page.evaluate(f"{element}.scrollIntoView({{block: 'center'}})")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(
        f"(() => {{ const p = {element}.getBoundingClientRect(); return [p.x, p.y, p.width, p.height]; }})()"
    )


def tells(page, plot, said):
    """Whether this is told while the pointer goes through the plot from left to right."""
    left, top, width, height = place_of(page, plot)
    for part in np.linspace(0.25, 0.95, 29):
        page.move_to(left + part * width, top + (0.3 + part / 3) * height)
        page.evaluate("new Promise((done) => setTimeout(done, 15))")
        if said in page.evaluate(TOLD):
            return True
    return False


@pytest.mark.parametrize(("name", "width"), [("images", 390), ("images", 1400), ("classes", 390), ("numbers", 390)])
def test_nothing_is_cut_off(shown, name, width):
    page = shown(name, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate("document.querySelectorAll('.plot canvas, .plot > *').length") >= 6


@pytest.mark.parametrize("width", [390, 1400])
def test_the_plots_tell_what_is_under_the_pointer(shown, width):
    page = shown("images", width=width)
    told = ["training", "validation", "learning rate", "samples a second", "of the class"]
    assert [said for plot, said in enumerate(told) if not tells(page, plot, said)] == []


def test_errors_of_numbers_are_told(shown):
    page = shown("numbers", width=1400)
    assert tells(page, 5, "off by")


def test_a_box_is_zoomed_into(shown):
    page = shown("images", width=1400)
    span = "(() => { const r = Bokeh.documents[0].roots()[0].x_range; return r.end - r.start; })()"
    before = page.evaluate(span)
    left, top, width, height = place_of(page, 0)
    page.drag((left + 0.4 * width, top + 0.4 * height), (left + 0.6 * width, top + 0.6 * height))
    page.until(f"{span} < {0.5 * before}")


def test_text_of_the_data_is_text_in_tooltips_too(shown):
    page = shown("classes", width=1400)
    assert tells(page, 4, EVIL)
    assert page.evaluate("document.title") == "classes · xpnet"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(shown, dark):
    page = shown("images", width=1400, dark=dark)
    card = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert (luminance(card) < 0.1) == dark
    texts = (
        "[...document.querySelectorAll('h1, h3, td, dt, dd, small, .caption')].map((e) => getComputedStyle(e).color)"
    )
    axes = "Bokeh.documents[0].roots().map((plot) => plot.below[0].major_label_text_color)"
    page.until(f"!({axes}).includes('#808080')")
    colours = set(page.evaluate(f"{texts}")) | {as_rgb(colour) for colour in page.evaluate(axes)}
    for colour in colours:
        light, deep = sorted([luminance(colour), luminance(card)], reverse=True)
        assert (light + 0.05) / (deep + 0.05) >= 4.5, colour  # WCAG 2.2, 1.4.3


def as_rgb(colour):
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


def luminance(colour):
    """Of "rgb(r, g, b)", as WCAG 2.2 defines it."""
    parts = np.array([float(part) for part in colour.strip("rgb()").split(",")]) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
