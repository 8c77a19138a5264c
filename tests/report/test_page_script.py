"""The page's scripts in a headless browser, on pages made by hand: tables, leaderboard, images, accessibility."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from benchmark.report.figures.gallery import Panel
from benchmark.report.page.html import WINDOW, write_page
from tests.support.chromium import HOSTILE, board, chromium, media, panel, resize, section, until

TRUTH = np.zeros((40, 40), np.int32)
for number, (y, x) in enumerate(((4, 4), (4, 24), (24, 4), (24, 24)), start=1):
    TRUTH[y : y + 10, x : x + 10] = number
A, B = "a", "b"


@pytest.fixture(scope="module")
def driver():
    with chromium() as driver:
        yield driver


@pytest.fixture
def opened(driver, tmp_path):
    """opened(*sections): the driver at a page of these sections, in a window of 1280 × 800."""

    def opens(*sections):
        write_page(tmp_path / "index.html", list(sections), "title", "subtitle", "footer")
        resize(driver, 1280)
        media(driver)
        driver.get("about:blank")
        driver.get((tmp_path / "index.html").as_uri())
        return driver

    return opens


def panels() -> list[Panel]:
    """Three images: the methods find the same, differ in three nuclei, and miss all."""
    return [
        panel("same", TRUTH, {A: [1, 2], B: [1, 2]}, diameter=9.0),
        panel("apart", TRUTH, {A: [1, 2, 3], B: [3, 4]}, diameter=7.0),
        panel("missed", TRUTH, {A: [], B: []}, diameter=8.0),
    ]


def texts(driver, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)"
    return driver.execute_script(script, selector)


def severe(driver):
    return [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_hostile_name_stays_text_everywhere(opened, tmp_path):
    names = (HOSTILE, "b", "c")
    image = panel(HOSTILE, TRUTH, {HOSTILE: [1], "b": [2]}, rule=HOSTILE)
    driver = opened(
        section(methods=names, panels=[image], compared=HOSTILE, finding=[f"`{HOSTILE}`"], limits=[HOSTILE])
    )

    class Scripts(HTMLParser):
        count = 0

        def handle_starttag(self, tag, attrs):
            Scripts.count += tag == "script"

    Scripts().feed((tmp_path / "index.html").read_text())
    assert Scripts.count == 3, "the data of tables and of images, and the script"
    assert driver.execute_script("return document.scripts.length") == 3 and severe(driver) == []
    until(driver, lambda: texts(driver, ".views figcaption"), "images are drawn")
    assert driver.execute_script("return document.scripts.length") == 3
    for selector in (
        *(".compared", ".finding code", "table.board tbody th", "[data-a] option", "[data-image] option"),
        *("[data-caption]", ".views figcaption", ".card pre", "details.topic td"),
    ):
        assert any(HOSTILE in text for text in texts(driver, selector)), selector
    driver.execute_script(
        "const s = document.querySelector('[data-colour]'); s.value = 'type'; "
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    until(driver, lambda: any(HOSTILE in text for text in texts(driver, ".keys span")), "the class's colour is named")


def test_a_large_table_is_not_in_the_document(opened):
    driver = opened(section(count=4000))
    cells = "return document.querySelectorAll('td').length"
    assert driver.execute_script(cells) < 300
    driver.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    button = driver.find_element("css selector", "table[data-key] th:nth-child(2) button")
    button.click()
    first = "details.topic table[data-key] tbody td:last-child"
    assert texts(driver, first) == [str(k) for k in range(3999, 3999 - WINDOW, -1)], "all rows are sorted"
    driver.find_element("css selector", "details.topic .pager [data-step='1']").click()
    assert texts(driver, first)[0] == str(3999 - WINDOW) and driver.execute_script(cells) < 300
    assert f"rows {WINDOW + 1}–{2 * WINDOW} of 4000" in texts(driver, "details.topic .pager span")
    driver.find_element("css selector", "details.topic input.filter").send_keys("00017")
    assert texts(driver, first) == ["17"]


def test_the_leaderboard_chooses_columns_and_rows(opened):
    driver = opened(section(methods=tuple("abcdef"), board=board(list("abcdef"), published=("x@paper",))))
    head = "table.board thead th"
    assert texts(driver, head) == ["method", "rank", "tuned", "bPQ", "mPQ", "ours − published (bPQ)"]
    assert texts(driver, "table.board tbody th") == [*"abcdef", "x@paperpublished"]
    assert texts(driver, "table.board tr.published td")[-1] == "+0.015"
    bars = driver.find_elements("css selector", "table.board svg")
    assert len(bars) == 6 and bars[0].get_attribute("aria-label") == "95 % interval"
    driver.find_element("css selector", ".chooser summary").click()
    driver.find_element("css selector", "[data-column='F1_3']").click()
    driver.find_element("css selector", "[data-column='mPQ']").click()
    assert texts(driver, head) == ["method", "rank", "tuned", "bPQ", "ours − published (bPQ)", "F1 of the type 3"]
    select = driver.find_element("css selector", "[data-facet='tuned']")
    select.find_element("css selector", "option[value='adapter']").click()
    assert texts(driver, "table.board tbody th") == ["b", "d", "f"]
    assert not driver.find_elements("css selector", "[data-facet='dataset']"), "there is one data set"


def test_facets_reach_the_other_groups(opened):
    second = section("g1", methods=("p", "q"), board=board(["p", "q"], dataset="two"))
    driver = opened(section(), second)
    own = "#g0 table.board tbody "
    assert texts(driver, own + "th") == ["a", "b", "c"]
    driver.find_element("css selector", "#g0 [data-facet='dataset'] option[value='all']").click()
    assert texts(driver, own + "th") == ["title g0", "a", "b", "c", "title g1", "p", "q"]
    driver.find_element("css selector", "#g0 [data-facet='dataset'] option[value='two']").click()
    assert texts(driver, own + "th") == ["p", "q"] and texts(driver, "#g1 table.board tbody th") == ["p", "q"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_the_page_is_no_wider_than_the_window(opened, width, scheme):
    long = tuple(f"cellvta ({k} optimiser.lr 0.0005, schedule.name step)" for k in range(12))
    driver = opened(section(methods=long, panels=panels()))
    media(driver, scheme)
    resize(driver, width)
    driver.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for tick in driver.find_elements("css selector", "[data-column^='F1']"):
        driver.execute_script("arguments[0].click()", tick)
    resize(driver, width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    back = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_wide_leaderboard_says_so_and_keeps_its_first_column(opened):
    driver = opened(section())
    region = driver.find_element("css selector", ".wide.board")
    shown = "return [document.querySelector('.more').hidden, arguments[0].classList.contains('more-right')]"
    assert driver.execute_script(shown, region) == [True, False]
    resize(driver, 390)
    until(driver, lambda: driver.execute_script(shown, region) == [False, True], "more lies to the right")
    assert "More columns to the right" in driver.find_element("css selector", ".more").text
    left = "return document.querySelector('table.board tbody th').getBoundingClientRect().left"
    before = driver.execute_script(left)
    driver.execute_script("arguments[0].scrollLeft = 1e6", region)
    until(driver, lambda: driver.execute_script(shown, region) == [False, False], "this is the end")
    assert driver.execute_script(left) == before, "the first column stays"
    many = tuple(f"method {k}" for k in range(60))
    driver = opened(section(methods=many))
    assert len(texts(driver, "table.board tbody tr")) == WINDOW
    resize(driver, 1280, 400)
    region = driver.find_element("css selector", ".wide.board")
    driver.execute_script("arguments[0].scrollTop = 200", region)
    top = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
    below = driver.execute_script(top, "table.board thead th") - driver.execute_script(top, ".wide.board")
    assert driver.execute_script("return arguments[0].scrollTop", region) == 200 and 0 <= below < 3, "the header stays"


def test_without_scripts_and_on_paper_the_main_table_is_there(opened):
    driver = opened(section(methods=tuple(f"method {k}" for k in range(60)), count=90))
    driver.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    media(driver, medium="print")
    for selector, count in (("table.board tbody tr", 60), ("details.topic tbody tr", 90)):
        script = "return [...document.querySelectorAll(arguments[0])].map((row) => row.getBoundingClientRect().height)"
        heights = driver.execute_script(script, selector)
        assert len(heights) == count and min(heights) > 5, "unfolded, all of them"
    media(driver)
    driver.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert len(driver.find_elements("css selector", "table.board tbody tr")) == WINDOW
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.refresh()
        rows = driver.find_elements("css selector", "noscript tbody tr")
        assert len(rows) == 60 and rows[59].is_displayed() and "method 59" in rows[59].text
        assert not driver.find_element("css selector", "input.filter").is_displayed(), "it would do nothing"
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def captions(driver):
    return texts(driver, ".views figcaption")


def pictures(driver):
    return driver.execute_script("return [...document.querySelectorAll('.views canvas')].map((c) => c.toDataURL())")


def colour(driver, view, x, y):
    """Red, green and blue of a pixel of a view."""
    canvas = "document.querySelectorAll('.views canvas')[arguments[0]]"
    script = f"return [...{canvas}.getContext('2d').getImageData(arguments[1], arguments[2], 1, 1).data]"
    return driver.execute_script(script, view, x, y)[:3]


def test_two_methods_beside_the_truth_and_their_difference(opened):
    driver = opened(section(panels=panels()))
    until(driver, lambda: len(captions(driver)) == 4, "four views")
    assert captions(driver)[0] == "truth: 4 nuclei"
    assert captions(driver)[1] == "a: bPQ 0.500, 2 of 4 found, 0 false positives"
    driver.find_element("css selector", "[data-next]").click()
    until(driver, lambda: captions(driver)[3] == "difference: 2 found by a alone, 1 by b alone", "the second image")
    colours = [colour(driver, 3, x, y) for x, y in ((4, 4), (4, 24), (24, 24))]
    assert colours == [[0, 245, 212], [200, 200, 200], [255, 221, 0]], "a alone, both, b alone"
    driver.find_element("css selector", "[data-next]").click()
    until(driver, lambda: "0 found by a alone" in captions(driver)[3], "the third image")
    assert colour(driver, 3, 4, 4) == [255, 40, 0], "neither finds it"
    driver.find_element("css selector", "[data-b] option[value='']").click()
    until(driver, lambda: len(captions(driver)) == 2, "the truth and one method")


def test_types_in_colour(opened):
    driver = opened(section(panels=panels()))
    until(driver, lambda: len(captions(driver)) == 4, "four views")
    driver.find_element("css selector", "[data-colour] option[value='type']").click()

    def colours(view):
        return [colour(driver, view, x, 4) for x in (4, 24)]

    types = [[230, 159, 0], [86, 180, 233]]
    until(driver, lambda: colours(0) == types, "the truth's outlines have the colours of their types")
    assert colours(1) == types, "and so have those of a method"


def test_jumps_go_to_what_they_name(opened):
    driver = opened(section(panels=panels()))
    until(driver, lambda: len(captions(driver)) == 4, "four views")
    root = driver.find_element("css selector", ".gallery")
    for name, order in (("disagreement", "102"), ("small", "120"), ("missed", "201")):
        for expected in order[:2]:
            driver.find_element("css selector", f"[data-jump='{name}']").click()
            until(driver, lambda expected=expected: root.get_attribute("data-shown") == expected, f"{name} {expected}")


def test_a_link_reopens_the_same_view(opened, tmp_path):
    big = np.kron(TRUTH, np.ones((3, 3), np.int32))
    driver = opened(section(panels=[*panels(), panel("large", big, {A: [1, 2], B: [3], "c": [4]})]))
    until(driver, lambda: len(captions(driver)) == 4, "four views")
    driver.find_element("css selector", "[data-image] option:last-child").click()
    driver.find_element("css selector", "[data-a] option[value='c']").click()
    driver.find_element("css selector", "input[value='4']").click()
    until(driver, lambda: captions(driver)[1].startswith("c:"), "another method")
    driver.execute_script("document.querySelector('[data-previous]').focus()")
    driver.switch_to.active_element.send_keys("+")
    until(driver, lambda: driver.execute_script("return document.querySelector('.views canvas').width") == 60, "zoomed")
    expected = captions(driver), pictures(driver)
    link = driver.find_element("css selector", "[data-link]").get_attribute("href")
    driver.get("about:blank")
    driver.get(link)
    until(driver, lambda: (captions(driver), pictures(driver)) == expected, "the same view")
    assert not driver.find_element("css selector", "input[value='4']").is_selected()
    driver.execute_script("location.hash = '#view?of=nothing&image=x'")
    driver.execute_script("location.hash = '#view?of=g0-images&zoom=x&a=<b>'")
    until(driver, lambda: len(captions(driver)) >= 2, "a damaged link shows something")
    assert severe(driver) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_serious_for_axe(opened, width, scheme):
    axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core-python is not installed").Axe()
    published = section("g1", board=board(["p", "q"], dataset="two", published=("x@paper",)), panels=panels())
    driver = opened(section(panels=panels()), published)
    media(driver, scheme)
    resize(driver, width)
    driver.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    until(driver, lambda: len(captions(driver)) == 8, "images are drawn")
    violations = axe.run(driver)["violations"]
    grave = [entry for entry in violations if entry["impact"] in ("serious", "critical")]
    assert [(e["id"], e["nodes"][0]["html"][:200], e["nodes"][0]["failureSummary"][:300]) for e in grave] == []


def test_the_page_fetches_nothing(opened, tmp_path):
    driver = opened(section(panels=panels()))
    until(driver, lambda: len(captions(driver)) == 4, "four views")
    names = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in names if not name.startswith("data:")] == []
    assert Path(tmp_path / "index.html").stat().st_size < 200_000


def test_blocks_with_few_rows_are_not_stored_twice(tmp_path):
    write_page(tmp_path / "index.html", [section(count=WINDOW)], "title", "subtitle", "footer")
    assert (tmp_path / "index.html").read_text().count("a 00007") == 1
    write_page(tmp_path / "index.html", [section(count=WINDOW + 1)], "t", "s", "f")
    text = (tmp_path / "index.html").read_text()
    assert text.count("a 00007") == 2 and text.count(f"a {WINDOW:05d}") == 1
