"""The report of two real (tiny) runs: its files, and the page in a real headless browser."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from tests.support.chromium import chromium, resize, until
from tests.support.report_runs import read_csv

METHODS = ("classical", "decoder_only")


@pytest.fixture(scope="module")
def reports(ablation, command_here, once, cache):
    def make(out):
        words = ("--results", ablation.results, "--reports", out, "--cache", cache)
        done = command_here("report", *words, results=ablation.results, data=False)
        assert done.returncode == 0 and done.stdout.strip() == str(out / "index.html"), done.stderr

    return once("report", make)


@pytest.fixture(scope="module")
def folder(reports):
    (found,) = [p.parent for p in reports.rglob("main-cellvit.md")]
    return found


@pytest.fixture(scope="module")
def page(reports):
    return (reports / "index.html").read_text()


@pytest.fixture(scope="module")
def browser(reports):
    with chromium(1200, 1400) as driver:
        driver.get((reports / "index.html").as_uri())
        yield driver


def test_every_figure_has_its_csv(folder):
    figures = {p.stem for p in folder.glob("*.png")}
    assert {"training", "examples", "tissues", "accuracy_cost"} <= figures
    for stem in figures:
        assert (folder / f"{stem}.pdf").read_bytes()[:4] == b"%PDF" and read_csv(folder / f"{stem}.csv"), stem


def test_images_are_chosen_by_rule(folder):
    rows = read_csv(folder / "examples.csv")
    scores = {}
    for r in rows:
        scores.setdefault(r["image_id"], []).append(float(r["bPQ"]))
    rule = {r["rule"]: r["image_id"] for r in rows}
    means = {k: np.mean(v) for k, v in scores.items()}
    assert means[rule["best"]] >= max(means.values()) - 1e-9 and means[rule["worst"]] <= min(means.values()) + 1e-9


def test_page_is_self_contained(page):
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", page), "nothing is fetched"
    assert len(page) < 15e6 and page.count("<table") > 4 and "{{" not in page.split("<script")[0]

    class Balanced(HTMLParser):
        open = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "link", "img", "input", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag, (tag, self.getpos())

    parser = Balanced()
    parser.feed(page)
    assert not parser.open


def test_linked_files_exist(page, reports):
    links = [h for h in re.findall(r'href="([^"#]+)"', page) if not h.startswith("data:")]
    assert len(links) > 10 and [link for link in links if not (reports / unquote(link)).is_file()] == []


def test_loads_without_console_errors(browser):
    assert browser.title and browser.find_elements("css selector", ".views canvas")
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_tables_sort_and_filter(browser):
    table = browser.find_element("css selector", "table.sortable")

    def names():
        return [c.text for c in table.find_elements("css selector", "tbody tr:not([hidden]) > :first-child")]

    def press(place):  # the header is drawn anew
        table.find_elements("css selector", "th button")[place].click()

    press(0)
    assert names() == sorted(names(), reverse=True)
    press(0)
    assert names() == sorted(METHODS)
    keys = [head.get_attribute("data-key") for head in table.find_elements("css selector", "th[data-key]")]
    press(keys.index("mPQ"))
    press(keys.index("bPQ"))
    values = [c.text for c in table.find_elements("css selector", f"tbody td:nth-child({1 + keys.index('bPQ')})")]
    known = [float(v) for v in values if v != "–"]
    assert known == sorted(known, reverse=True) and len(known) == 2
    box = browser.find_element("css selector", "input.filter")
    box.send_keys("class")
    assert names() == ["classical"]
    for _ in "class":
        box.send_keys("\ue003")
    assert len(names()) == 2


def test_image_browser_steps_toggles_and_zooms(browser):
    root = browser.find_element("css selector", ".gallery")

    def wait(condition, what):
        until(browser, condition, what)

    def pixels():
        # of all methods: where one misses every nucleus, its outlines hide the truth's
        script = "return [...document.querySelectorAll('.views canvas')].map(c => c.toDataURL()).join()"
        return browser.execute_script(script)

    def shown():
        return root.get_attribute("data-shown")

    wait(lambda: shown() == "0", "the first image is shown")
    root.find_element("css selector", "[data-next]").click()
    wait(lambda: shown() == "1", "the next image is shown")
    canvas = root.find_element("css selector", "canvas")
    canvas.send_keys("\ue012")  # arrow left
    wait(lambda: shown() == "0", "the arrow key steps back")
    before = pixels()
    root.find_element("css selector", "input[value='8']").click()
    wait(lambda: pixels() != before, "the truth's outlines appear")
    size = browser.execute_script("return document.querySelector('.views canvas').width")
    root.find_element("css selector", "canvas").click()
    wait(lambda: browser.execute_script("return document.querySelector('.views canvas').width") == size // 2, "zoom")
    options = root.find_elements("css selector", "[data-a] option")
    assert sorted(option.text.split()[0] for option in options) == sorted(METHODS)
    assert len(root.find_elements("css selector", "canvas")) == 4, "the truth, two methods, their difference"
    root.find_element("css selector", "[data-b] option[value='']").click()
    wait(lambda: len(root.find_elements("css selector", "canvas")) == 2, "a method is left out")
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_screenshot_shows_something(browser, tmp_path):
    browser.save_screenshot(str(tmp_path / "page.png"))
    picture = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
    assert picture.std() > 10 and len(np.unique(picture)) > 30


def test_focus_stays_on_the_image_that_steps(browser):
    root = browser.find_element("css selector", ".gallery")
    canvas = root.find_element("css selector", "canvas")
    start, n = int(root.get_attribute("data-shown")), len(root.find_elements("css selector", "[data-image] option"))
    for step in (1, 2):  # the second key reaches a canvas that was drawn anew
        browser.execute_script("arguments[0].focus()", canvas) if step == 1 else None
        browser.switch_to.active_element.send_keys("\ue014")  # arrow right
        for _ in range(100):
            if root.get_attribute("data-shown") == str((start + step) % n):
                break
            browser.execute_async_script("setTimeout(arguments[0], 50)")
        assert root.get_attribute("data-shown") == str((start + step) % n), f"key {step}"
        assert browser.execute_script("return document.activeElement.tagName") == "CANVAS"


def test_one_reads_the_answer_without_scrolling(browser):
    resize(browser, 1280)
    ends = "return [...document.querySelectorAll(arguments[0])].map((node) => node.getBoundingClientRect().bottom)"
    browser.execute_script("scrollTo(0, 0)")
    for selector in (".compared", ".finding", ".limits", ".pair img"):
        bottoms = browser.execute_script(ends, selector)
        assert bottoms and max(bottoms) <= 800, selector
    order = ".compared, .finding, .pair, .table[id$=leaderboard], .gallery, details.topic"
    tops = browser.execute_script(ends.replace("bottom", "top"), order)
    assert tops == sorted(tops) and len(tops) > 8


def test_cards_say_where_a_run_comes_from(browser):
    script = "return [...document.querySelectorAll('.card')].map((card) => card.textContent)"
    cards = browser.execute_script(script)
    assert len(cards) == 2
    for card, method in zip(sorted(cards), sorted(METHODS), strict=True):
        for text in (f"{method}@debug", "seed", "commit: ", "hardware: ", "## What may not be concluded", "## Weights"):
            assert text in card, (text, card)
        assert "---\n" not in card.partition("| protocol")[0], "the front matter is for programs"
