"""The robustness page in a browser, as its reader sees, folds, points at and saves it."""

import csv
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from browser import VISIBLE, chromium, driven, layout
from metro_fast.robustness import Report, compare, write_page
from synthetic_study import BREAKS, MODELS, Break, synthetic_study

WIDTHS = (400, 800, 1300)
SMALL = {"models": 3, "tasks": 3, "wordings": 6, "items": 40, "controls": 1}
FAILED = Break("expert", "qa-01", "question-first", 0.7)
HOSTILE = (
    "</title></style><script>document.title='run'</script>",
    '"><img src=x onerror="document.title=\'run\'">',
    r"=1+$\frac{1}{0$",
)


def write(folder: Path, reports: list[Report]) -> Path:
    curves = {"Loss": {"METRO": [(0.0, 8.5), (100.0, 4.25)]}}
    sizes = {report.model_name: 10**k for k, report in enumerate(reports, 4)}
    return write_page(folder / "page.html", reports, artifacts=sizes, curves=curves)


@pytest.fixture(scope="module")
def small() -> list[Report]:
    return synthetic_study(**SMALL, breaks=(FAILED,))


@pytest.fixture(scope="module")
def page(small: list[Report], tmp_path_factory: pytest.TempPathFactory) -> Path:
    chromium()
    return write(tmp_path_factory.mktemp("page"), small)


# 240,000 answers take 5 s to make and 6 s to summarize.
@pytest.mark.slow
def test_someone_who_sees_the_first_screen_names_all_three_breaks(tmp_path: Path) -> None:
    reports = synthetic_study()
    start = time.process_time()
    path = write_page(tmp_path / "page.html", reports)
    assert time.process_time() - start < 10
    assert path.stat().st_size < 2_000_000
    with driven(path) as browser:
        text = browser.execute_script(VISIBLE)
        height = browser.execute_script("return document.documentElement.scrollHeight")
        marked = browser.execute_script("return document.querySelectorAll('td.broken').length")
        assert browser.get_log("browser") == []
    assert height <= 3 * 800
    assert marked == len(BREAKS)
    for model in MODELS:
        assert f"{model} {'against base' if model != 'base' else 'has'}" in text
    for model, task, wording, _ in BREAKS:
        assert f"{wording} on {task} : " in text
        assert f"{model} 1 of 400 broken" in text
        assert f"Broken: {wording} on {task}" in text
    assert text.count("nothing is shown to be broken") == 3


def test_nothing_is_an_error_or_wider_than_the_window(page: Path, tmp_path: Path) -> None:
    opened = page.read_text("utf-8").replace("<details", "<details open")
    for dark in (False, True):
        found = layout(opened, WIDTHS, tmp_path, dark=dark)
        assert {width: at["faults"] for width, at in found.items()} == {w: [] for w in WIDTHS}
    with driven(page) as browser:
        assert browser.get_log("browser") == []


def test_sections_fold_and_unfold_by_keyboard_and_by_links(page: Path) -> None:
    shown = (
        "return [...document.querySelectorAll('details[open] > summary')].map(s => s.textContent)"
    )
    with driven(page) as browser:
        from selenium.webdriver.common.keys import Keys

        assert browser.execute_script(shown) == []
        summary = browser.find_element("css selector", "section summary")
        for _ in range(80):
            if browser.switch_to.active_element == summary:
                break
            browser.switch_to.active_element.send_keys(Keys.TAB)
        summary.send_keys(Keys.ENTER)
        (first,) = browser.execute_script(shown)
        assert "comparisons with a reference are worse" in first
        summary.send_keys(Keys.SPACE)
        assert browser.execute_script(shown) == []
        # The broken cell is a link into the folded section of its task.
        cell = browser.find_element("css selector", "td.broken a")
        assert "question-first on qa-01" in cell.accessible_name
        cell.send_keys(Keys.ENTER)
        opened = " ".join(browser.execute_script(shown))
        assert "3 tasks" in opened
        assert "qa-01: means" in opened
        assert browser.find_element("id", "task-2").is_displayed()


def test_marks_and_cells_say_where_their_numbers_are_from(page: Path, small: list[Report]) -> None:
    summary = small[1].summary("qa-01")
    source = f"model {summary.model_hash[:8]}, items {summary.items_hash[:8]}"
    with driven(page) as browser:
        from selenium.webdriver import ActionChains

        browser.find_element("css selector", "section summary").click()
        (mark,) = [
            each
            for each in browser.find_elements("css selector", "[open] svg.plot g:has(> title)")
            if each.find_element("css selector", "title")
            .get_property("textContent")
            .startswith("expert on qa-01: ")
        ]
        ActionChains(browser).move_to_element(mark).perform()
        hovered = browser.execute_script(
            "return [...document.querySelectorAll(':hover > title')].map(t => t.textContent)"
        )
        value = f"{100 * summary.mean:.1f} %"
        assert any(value in text and source in text for text in hovered)
        cell = browser.find_element("css selector", "td.broken")
        label = cell.find_element("css selector", "a").get_attribute("title")
        assert summary.model_hash[:8] in label
        row = cell.find_element("xpath", "..").find_element("css selector", "th")
        assert source in row.get_attribute("title")


def test_pictures_are_saved_as_files(page: Path, small: list[Report], tmp_path: Path) -> None:
    with driven(page) as browser:
        browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
        )
        browser.find_element("css selector", "section summary").click()
        for name in ("slopes.png", "slopes.csv"):
            browser.find_element("css selector", f'a[download="{name}"]').click()
            deadline = time.monotonic() + 20
            while not (tmp_path / name).exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        assert browser.get_log("browser") == []
    assert (tmp_path / "slopes.png").read_bytes().startswith(b"\x89PNG\r\n")
    rows = list(csv.DictReader((tmp_path / "slopes.csv").read_text("utf-8").splitlines()))
    expected = compare(small[0], small[1]).task("qa-01").difference.mean
    (row,) = [r for r in rows if (r["model"], r["task"]) == ("expert", "qa-01")]
    assert float(row["difference"]) == 100 * expected


def test_a_dark_desktop_has_its_own_colors_and_print_unfolds(page: Path) -> None:
    colors = (
        "const b = getComputedStyle(document.body);"
        "const t = getComputedStyle(document.querySelector('svg.plot text'));"
        "return [b.backgroundColor, b.color, t.fill]"
    )
    with driven(page) as browser:
        assert browser.execute_script(colors)[0] == "rgb(255, 255, 255)"
        folded = "return document.querySelector('section .plot').checkVisibility()"
        assert not browser.execute_script(folded)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert browser.execute_script(folded)
    with driven(page, dark=True) as browser:
        paper, ink, text = browser.execute_script(colors)
        assert paper == "rgb(20, 24, 28)"
        assert ink == "rgb(230, 233, 236)"
        assert text in (ink, "rgb(169, 177, 185)")


def test_hostile_names_stay_text(small: list[Report], tmp_path: Path) -> None:
    reports = [report.renamed(name) for report, name in zip(small, HOSTILE, strict=True)]
    path = write(tmp_path, reports)
    with driven(path) as browser:
        assert browser.title.startswith("Instruction robustness of </title>")
        assert browser.get_log("browser") == []
        assert browser.find_elements("css selector", "img, script, iframe") == []
        text = browser.execute_script(VISIBLE)
        for name in HOSTILE:
            assert name in text
        drawn = "return [...document.querySelectorAll('svg.plot text')].map(t => t.textContent)"
        assert any(text.startswith(HOSTILE[2]) for text in browser.execute_script(drawn))
        # A spreadsheet does not compute a name.
        saved = browser.find_element("css selector", 'a[download="bytes.csv"]')
        assert f"'{HOSTILE[2]}" in unquote(saved.get_attribute("href"))
