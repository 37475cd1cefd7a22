"""The report in a real browser: sorting, filtering, enlarging, keyboard, dark, narrow and printed, with no network."""

import shutil

import pytest

from tests.analysis.conftest import Folder
from tests.analysis.report.test_html import fill, made

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    *["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
    *["--disable-component-update", "--disable-sync"],
]

if CHROMIUM is None:
    pytest.skip("there is no chromium (Debian: apt-get install chromium)", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    folder = Folder(tmp_path_factory.mktemp("sweep"))
    fill(folder)
    folder.add(algorithm="bp", seed=9, status="diverged")
    made(folder)
    return (folder.path / "report" / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=ARGUMENTS, headless=True, offline=True
        )
        yield context
        context.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page()
    page.set_default_timeout(5000)
    messages, asked = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert messages == []  # a violation of the content security policy would be among them
    assert all(url.startswith(("file:", "data:")) for url in asked)
    page.close()


def column(page, table: str, name: str) -> list[str]:
    names = page.locator(f"#{table}-table thead th").all_inner_texts()
    place = [n.strip(" ▲▼\n") for n in names].index(name)
    return page.eval_on_selector_all(
        f"#{table}-table tbody tr:not([hidden])", f"rows => rows.map(row => row.cells[{place}].textContent)"
    )


def unfold(page, table: str) -> None:
    page.eval_on_selector(f"#{table}", "one => { one.open = true }")


def test_a_click_on_a_header_sorts_by_value_and_another_turns_it_round(page):
    header = page.locator("#runs-table th", has_text="test/accuracy")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    rising = [float(v) for v in column(page, "runs", "test/accuracy") if v != "–"]
    assert rising == sorted(rising)
    assert column(page, "runs", "test/accuracy")[-1] == "–"  # what has no value comes last
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    falling = [float(v) for v in column(page, "runs", "test/accuracy") if v != "–"]
    assert falling == rising[::-1]
    assert page.locator("#runs-table th[aria-sort]").count() == 1


def test_numbers_are_sorted_by_their_exact_value_not_as_text(page):
    unfold(page, "anova")
    names = [name.strip(" ▲▼\n") for name in page.locator("#anova-table thead th").all_inner_texts()]
    place = names.index("sum_sq")
    page.locator("#anova-table th").nth(place).get_by_role("button").click()
    keys = page.eval_on_selector_all(
        "#anova-table tbody tr", f"rows => rows.map(row => Number(row.cells[{place}].dataset.key))"
    )
    assert keys == sorted(keys)


def test_a_filter_leaves_the_rows_with_every_word_and_says_how_many(page):
    box = page.locator('input[data-table="runs-table"]')
    box.fill("ff muon")
    assert set(column(page, "runs", "algorithm")) == {"ff"}
    assert set(column(page, "runs", "optimiser")) == {"muon"}
    assert page.locator("#runs output").inner_text() == "4 of 25 rows"
    box.fill("status=diverged")
    assert column(page, "runs", "seed") == ["9"]
    box.fill("")
    assert len(column(page, "runs", "run")) == 25


def test_a_number_of_a_conclusion_leads_to_its_row(page):
    number = page.locator('a.number[href^="#posthoc-"]').first
    target = number.get_attribute("href")
    page.eval_on_selector("#posthoc", "one => { one.open = false }")
    assert not page.locator(target).is_visible()
    number.click()
    assert page.locator(target).is_visible()
    assert number.inner_text() != ""


def test_a_link_shows_a_row_that_a_filter_had_hidden(page):
    page.locator('input[data-table="concordance-table"]').fill("nothing has this")
    assert column(page, "concordance", "dataset") == []
    page.locator('a.number[href="#concordance-0"]').first.click()
    assert page.locator("#concordance-0").is_visible()


def test_a_row_leads_to_the_runs_behind_it(page):
    unfold(page, "levels")
    row = page.locator("#levels-table tr", has_text="test/accuracy").filter(has_text="fa").first
    row.locator("a.behind").click()
    assert set(column(page, "runs", "algorithm")) == {"fa"}
    assert set(column(page, "runs", "status")) == {"complete"}
    assert len(column(page, "runs", "run")) == int(row.locator("a.behind").inner_text())


def test_a_figure_enlarges_by_keyboard_and_escape_brings_back(page):
    button = page.locator("button.enlarge").first
    button.focus()
    page.keyboard.press("Enter")
    large = page.locator("#large")
    assert large.is_visible()
    shown = large.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert shown > 300
    page.keyboard.press("Escape")
    assert not large.is_visible()
    assert button.evaluate("one => one === document.activeElement")


def test_all_controls_are_reached_by_tab_and_have_names(page):
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input, summary, [tabindex]")].filter(one =>
            !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length)).length"""
    )
    assert nameless == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#conclusions"
    tree = page.locator("main").aria_snapshot()
    for part in ('heading "Conclusions" [level=2]', "table", 'button "Enlarge:', 'searchbox "Only rows with"'):
        assert part in tree


def contrast(page, selector: str) -> float:
    """Contrast of an element's text with the page, WCAG 2.2."""
    return page.eval_on_selector(
        selector,
        """one => {
          const light = colour => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
              .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const [a, b] = [getComputedStyle(one).color, getComputedStyle(document.body).backgroundColor].map(light);
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }""",
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    for selector in ("p", ".about", "nav a", "dt"):
        assert contrast(page, selector) > 4.5
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("width", [320, 1400])
def test_the_page_never_scrolls_sideways(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    for table in ("anova", "levels", "fingerprint_confusion"):
        unfold(page, table)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_without_its_controls(page, tmp_path):
    page.emulate_media(media="print")
    assert not page.locator(".filter").first.is_visible()
    assert page.locator("#conclusions").is_visible()
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
