"""What only a real browser shows: nothing overflows, text never shrinks, the policy is kept, the keyboard works."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright
from werkzeug.serving import make_server

from experiments.serving.recommender import Catalogue
from tests.web.preview import PreviewDesk, preview_app

CHROMIUM = (
    os.environ.get("PRESSLAB_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium, or set PRESSLAB_CHROMIUM"),
    # A browser that goes on to the next page drops its connections; the development server then leaves the static file
    # it was sending to the garbage collector.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO name=.*/web/static/:pytest.PytestUnraisableExceptionWarning"),
]
if CHROMIUM is None and os.environ.get("CI"):
    raise RuntimeError("on CI the pages are looked at in a real browser: install chromium, or set PRESSLAB_CHROMIUM")

PAGES = (
    "/en/", "/en/section/city", "/en/article/import-1", "/en/search?q=tram", "/en/privacy", "/console/en/", "/console/en/experiment/related",
    "/console/en/experiment/odd", "/console/en/jobs", "/console/en/models", "/console/en/drift", "/console/en/health",
)  # fmt: skip
SMALLEST = "Math.min(...[...document.querySelectorAll('main *, svg text')].filter(e => e.textContent.trim()).map(e => parseFloat(getComputedStyle(e).fontSize)))"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def address(newspaper: tuple[Catalogue, PreviewDesk]) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, preview_app(newspaper)[0], threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_pages_fit_are_legible_and_keep_the_policy(browser: Browser, address: str, width: int, mode: Literal["light", "dark"]) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=mode)
    context.route(
        "**/art/*.svg",
        lambda route: route.fulfill(status=200, content_type="image/svg+xml", body="<svg xmlns='http://www.w3.org/2000/svg'/>"),
    )
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    for path in PAGES:
        page.goto(address + path)
        assert page.evaluate(WIDER) <= 0, path
        assert page.evaluate(SMALLEST) >= 12, path
    assert said == []
    context.close()


@pytest.mark.parametrize(("width", "mode"), [(320, "dark"), (1280, "light")])
def test_axe_finds_nothing_against_accessibility(browser: Browser, address: str, width: int, mode: Literal["light", "dark"]) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=mode)
    page = context.new_page()
    for path in (*PAGES, "/console/en/explain", "/console/en/record", "/en/nothing-here"):
        page.goto(address + path)
        page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        found = Axe().run(page).response["violations"]
        assert [(path, fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found] == []
    context.close()


def test_the_first_stop_of_the_keyboard_skips_to_the_text(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address + "/en/privacy")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main"
    page.close()


def test_the_beacon_tells_visible_time_and_depth_when_the_page_is_left(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.route("**/e", lambda route: route.fulfill(status=202, body="{}"))
    page.goto(address + "/en/article/import-1")
    with page.expect_request("**/e") as sent:
        page.evaluate("Object.defineProperty(document, 'hidden', {value: true}); document.dispatchEvent(new Event('visibilitychange'))")
    told = sent.value.post_data_json
    assert told is not None
    assert told["token"] == "TOKEN"
    assert told["active_ms"] >= 0
    assert 0 <= told["depth"] <= 100
    page.close()


CLIPPED = """() => [...document.querySelectorAll('a, button, summary, input, select')].filter(e => e.checkVisibility()).filter(e => {
  e.focus()
  const style = getComputedStyle(e), room = parseFloat(style.outlineWidth) + parseFloat(style.outlineOffset), own = e.getBoundingClientRect()
  for (let box = e.parentElement; box; box = box.parentElement) {
    const around = box.getBoundingClientRect()
    if (getComputedStyle(box).overflowY !== 'visible' && box !== document.documentElement && (own.top - room < around.top - 1 || own.bottom + room > around.bottom + 1)) return true
  }
  return style.outlineStyle !== 'solid'
}).map(e => e.textContent.trim().slice(0, 40))"""


def test_the_ring_around_what_has_the_focus_is_never_cut_off(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    for path in ("/en/", "/console/en/", "/console/en/experiment/related", "/console/en/jobs"):
        page.goto(address + path)
        page.keyboard.press("Tab")
        assert page.evaluate(CLIPPED) == [], path
    page.close()


def test_text_of_double_size_fits_a_small_screen(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    for path in ("/en/", "/en/privacy", "/console/en/", "/console/en/experiment/related", "/console/en/drift", "/console/en/explain"):
        page.goto(address + path)
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert page.evaluate(WIDER) <= 0, path
    page.close()


BROKEN = """() => [...document.querySelectorAll('.scroll td')].filter(e => e.checkVisibility()).flatMap(cell => {
  const found = [], texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), range = document.createRange()
  while (texts.nextNode()) for (const word of texts.currentNode.textContent.matchAll(/[\\w,.]+/g)) {
    range.setStart(texts.currentNode, word.index)
    range.setEnd(texts.currentNode, word.index + word[0].length)
    if (range.getClientRects().length > 1) found.push(word[0])
  }
  return found
})"""


def test_no_number_and_no_word_of_a_table_is_broken_on_a_small_screen(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    for path in ("/console/en/experiment/related", "/console/en/health", "/console/en/models"):
        page.goto(address + path)
        page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        assert page.evaluate(BROKEN) == [], path
    page.close()


def test_paper_shows_all_text_in_light_colours_and_no_forms(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 718, "height": 1000}, color_scheme="dark")  # A4 between its margins
    page = context.new_page()
    page.goto(address + "/console/en/experiment/related")
    page.emulate_media(media="print")
    assert page.evaluate(WIDER) <= 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    shown = "[...document.querySelectorAll('.checks details p')].filter(e => e.checkVisibility({contentVisibilityAuto: true}) && e.offsetHeight).length"
    assert page.evaluate(shown) == page.evaluate("document.querySelectorAll('.checks details p').length") > 0
    assert page.evaluate("document.querySelector('form.step').offsetHeight") == 0
    context.close()
