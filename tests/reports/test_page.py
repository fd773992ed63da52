"""The page of a report: one file that escapes what is not its own and asks for nothing."""

import json
import re
import shutil
from html import unescape

import pytest

from gradalign_cli.reports.page import report_page
from gradalign_cli.reports.report import make_report
from tests.reports.folders import noisy, write_run

HOSTILE = "<script>alert(1)</script>$x$"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of three rows, one of them with a name that is a script, in a folder so called."""
    folder = tmp_path_factory.mktemp("<b>runs")
    write_run(folder / "agem", "agem", noisy(0.3))
    write_run(folder / "er", "er", noisy(0.8, seed=1), buffer__capacity=7)
    write_run(folder / "<img src=x>", HOSTILE, noisy(0.5, seed=2))
    report = make_report([folder], baseline="agem")
    path = folder / "report.html"
    path.write_text(report_page(report, "<i>title"))
    return path


def test_the_page_is_small_and_asks_for_nothing(page):
    text = page.read_text()
    assert len(text) < 3e6
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text)
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_what_is_not_ours_is_escaped(page):
    text = page.read_text()
    for script in ("<script>alert", "<img src=x", "<i>title", "<b>runs"):
        assert script not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;$x$" in text


def test_every_figure_has_a_text_and_names_of_its_own(page):
    text = page.read_text()
    figures = re.findall(r'<svg role="img" aria-label="([^"]+)"', text)
    assert len(figures) == text.count("<figure") > 8
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    for name in re.findall(r'href="#([^"]+)"', text):
        assert name in names


def test_colours_of_text_follow_the_page(page):
    text = page.read_text()
    assert "#010203" not in text
    assert "currentColor" in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_tells_what_differs_and_how_to_repeat(page):
    text = unescape(page.read_text())
    assert "buffer.capacity" in text
    assert re.search(r"gradalign train --config-path \S+/er'? --config-name config", text)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs chromium and chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def shown(browser, page):
    browser.get(page.as_uri())
    return browser


def column(shown, number):
    return shown.execute_script(
        "return [...document.querySelectorAll('#results tbody tr')]"
        f".map(row => row.cells[{number}].textContent)"
    )


def test_the_page_shows_without_an_error_and_asks_no_network(shown):
    assert shown.title == "<i>title"
    assert [entry["message"] for entry in shown.get_log("browser")] == []
    messages = [json.loads(entry["message"])["message"] for entry in shown.get_log("performance")]
    requested = {
        message["params"]["request"]["url"].partition(":")[0]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert requested <= {"file", "data"}
    heights = shown.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => svg.clientHeight)"
    )
    assert len(heights) > 8
    assert min(heights) > 50


def test_a_click_on_a_column_sorts_by_its_numbers_and_a_second_turns_the_order(shown):
    buttons = shown.find_elements("css selector", "#results th button")
    assert column(shown, 0)[0] == "er, buffer.capacity=7" or column(shown, 0)[0] == "er"
    buttons[2].click()
    rising = [float(text.split()[0]) for text in column(shown, 2)]
    assert rising == sorted(rising)
    buttons[2].click()
    assert [float(text.split()[0]) for text in column(shown, 2)] == rising[::-1]
    buttons[0].click()
    assert column(shown, 0) == sorted(column(shown, 0), key=str.lower)


def test_figures_carry_the_numbers_of_the_runs(shown, page):
    replicas = json.loads((page.parent / "er/metrics.json").read_text())["replicas"]
    numbers = shown.execute_script("return document.querySelector('#seeds + details').textContent")
    for replica in replicas:
        assert f"{100 * replica['ACC']:.2f}" in numbers
    texts = shown.execute_script("return document.querySelector('#accuracy').textContent")
    mean = sum(replica["ACC"] for replica in replicas) / len(replicas)
    assert f"{100 * mean:.0f}" in texts


def test_a_phone_scrolls_down_alone(shown):
    shown.set_window_size(500, 800)
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert shown.execute_script(overflow) <= 0
