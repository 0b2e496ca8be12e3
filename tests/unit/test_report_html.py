"""The report as a document: what it says, that it is inert, that it is the same on every run.

Values are read back from the HTML with the standard parser; the expected ones are those of the published
report, worked out by hand.
"""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analytics.estimates.model import FlowStep, QualityItem
from analytics.provenance import Provenance, SiteData
from analytics.report.html import render_html
from mappers.study import load_study
from tests.example_release import example_release, example_results, published

STUDY = load_study("alneo")
INVENTED = "The patients are invented, so nothing was suppressed (min_cell = 0)."
VOID = {"meta", "link", "img", "input", "br", "hr", "base"}
Element = tuple[str, dict[str, str]]


class Page(HTMLParser):
    """Elements in order, text without that of <style>, and the cells of rows that carry a data-id."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._cells: list[str] | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.elements.append((tag, named))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self._cells = []
            if "data-id" in named:
                self.rows.setdefault(named["data-id"], []).append(self._cells)
        elif tag in ("td", "th") and self._cells is not None:
            self._cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        text = data.replace("\N{NO-BREAK SPACE}", " ")
        self.words.append(text)
        if self._cells and "tr" in self.open:
            self._cells[-1] += text

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def tags(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def row(self, name: str) -> list[str]:
        """The first row of that id: the table of estimates comes before "published / here"."""
        return [" ".join(cell.split()) for cell in self.rows[name][0]]


@cache
def plain_html() -> str:
    return html()


def html(min_cell: int = 0, statement: str | None = INVENTED, **changes: object) -> str:
    return render_html(example_release(min_cell, **changes), STUDY, 7, *published(), statement=statement)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(plain_html())


@pytest.fixture(scope="module")
def suppressed() -> Page:
    return Page(html(11, statement=None))


# What it says


def test_head_of_the_page(page: Page) -> None:
    assert page.tags("html") == [{"lang": "en"}]
    for said in (
        "Perioperative alectinib in resectable stage III ALK-positive NSCLC (ALNEO)",
        "NCT05015010",
        "1 December 2024",
        "2: milan, turin",
        INVENTED,
        "later cut 5 May 2025",
        "0" * 60 + "cafe",
    ):
        assert said in page.text
    assert re.search(r"Release 7\b", page.text)


def test_sections_stand_in_order(page: Page) -> None:
    ids = [attrs["id"] for attrs in page.tags("section")]
    assert ids == [
        "key",
        "flow",
        "baseline",
        "response",
        "survival",
        "safety",
        "published",
        "quality",
        "methods",
    ]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("baseline.age", ["n = 33", "62 (49–74) years"]),
        ("baseline.sex.female", ["23/33", "70 %"]),
        ("response.mpr", ["15/33", "45 %", "30–61 % (90 % CI)"]),
        ("response.pcr", ["4/33", "12 %", "3–28 % (95 % CI)"]),
        ("response.orr", ["22/33", "67 %"]),
        ("surgery.r0", ["24/28", "86 %"]),
        ("treatment.surgery_to_adjuvant", ["n = 26", "5.1 weeks", "3.6–6.0 (quartiles)"]),
        ("treatment.adjuvant_completed", ["5/26", "19 %"]),
        ("survival.follow_up", ["n = 33", "15.2 months", "6.8–27.8 (quartiles)"]),
        ("survival.alive@later_cut", ["30/33", "91 %"]),
        ("safety.adjuvant.any.grade3plus", ["2/26", "8 %"]),
    ],
)
def test_values_in_the_tables(page: Page, name: str, cells: list[str]) -> None:
    assert page.row(name)[2 : 2 + len(cells)] == cells


def test_every_declared_estimate_has_a_row(page: Page) -> None:
    declared = {spec.id for spec in (*STUDY.proportions, *STUDY.quantiles)}
    assert declared <= set(page.rows)


def test_key_results(page: Page) -> None:
    key = page.text.split("Key results")[-1].split("Patient flow")[0]
    assert "Major pathological response 45 % 15/33 enrolled 90 % CI 30–61 %" in key
    assert "R0 resection 86 % 24/28 resected" in key
    assert "Median event-free survival not reached 12 months: 89 %" in key


def test_survival_at_a_landmark_by_hand() -> None:
    results = example_results()
    first = results.survival[0]
    # Of 33: events at days 60 and 63 (33 and 32 at risk), then day 300 (20 at risk: 11 censored before).
    expected = (32 / 33) * (31 / 32) * (19 / 20)
    assert first.landmarks[0].s == pytest.approx(expected)
    assert "At 12 months 18 89 %" in Page(plain_html()).text  # 0.8924; at risk 33 - 3 events - 12 censored


def test_not_reached_and_not_evaluable_are_words(page: Page) -> None:
    assert "Median not reached (95 % CI" in page.text
    assert "At 36 months 3 not evaluable fewer than 5 at risk" in page.text


def test_denominators_of_adverse_events_are_named(page: Page) -> None:
    said = "neoadjuvant phase, population enrolled (n = 33); adjuvant phase, population adjuvant (n = 26)."
    assert said in page.text


def test_published_and_here_with_the_reason(page: Page) -> None:
    cells = [" ".join(cell.split()) for cell in page.rows["response.mpr"][1]]
    assert cells[1:3] == ["15/33 · 46 % (31–61 %)", "15/33 · 45 % (30–61 %)"]
    assert cells[3].startswith("−1 percentage point; lower limit −1 15/33 is 45.45 %.")


def test_the_notes_of_the_study_all_stand_there(page: Page) -> None:
    assert not [note.text for note in STUDY.notes if note.text.replace("\N{NO-BREAK SPACE}", " ") not in page.text]


def test_methods_are_named(page: Page) -> None:
    for name in (
        "Clopper–Pearson",
        "Greenwood, log(−log)",
        "Brookmeyer–Crowley",
        "Reverse Kaplan–Meier",
        "type 7",
    ):
        assert name in page.text
    assert "rounded once, half up" in page.text
    assert "Wilson Two-sided interval of a proportion by the score test" in page.text


def test_data_quality(page: Page) -> None:
    assert "turin Patient line is not valid JSON: quarantined 1" in page.text


def test_missing_sites_are_said_before_any_result() -> None:
    naples = SiteData("naples", "2026-04-30", "2026-04-30", up_to_date=False)
    text = Page(html(provenance=Provenance(sites=(naples,)))).text
    said = text.index("naples is not up to date: the figures include its data of 30 April 2026.")
    assert said < text.index("Major pathological response")
    assert "not up to date" not in Page(plain_html()).text.lower()


def test_without_control_and_without_a_statement_the_reader_is_warned() -> None:
    text = Page(html(statement=None)).text
    assert "min_cell = 0" in text
    assert "treat this report as patient data" in text


def test_an_estimate_of_an_unknown_kind_is_not_lost() -> None:
    extra = replace(example_results().proportions[0], id="quality_of_life.better", label="Better")
    assert Page(html(proportions=(extra,))).row("quality_of_life.better")[0] == "Better"


# What is suppressed


def test_suppressed_values_are_words_and_their_reason_stands_once(suppressed: Page) -> None:
    assert suppressed.row("response.pcr")[2] == "suppressed"
    assert suppressed.text.count("a protected count could be read or derived from it") == 1
    assert suppressed.row("response.mpr")[2:4] == ["15/33", "45 %"]
    assert "R0 resection suppressed resected" in suppressed.text
    assert "Resected n suppressed" in suppressed.text


def test_the_statement_says_what_was_suppressed(suppressed: Page) -> None:
    assert "min_cell = 11" in suppressed.text
    assert re.search(
        r"Suppressed in this release: \d+ estimates: a protected count could be read or derived from it",
        suppressed.text,
    )


@pytest.mark.parametrize("which", ["page", "suppressed"])
def test_no_missing_value_is_printed_as_a_number_or_a_python_word(which: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(which).text
    assert not re.search(r"\b(None|nan|NaN|inf|NaT|null)\b", text)


def test_a_release_with_nothing_left_says_so() -> None:
    text = Page(html(100, statement=None)).text
    assert "Disclosure control left no estimate to show." in text


# That it is inert


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    policy = next(m for m in page.tags("meta") if m.get("http-equiv") == "Content-Security-Policy")["content"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert not {tag for tag, _ in page.elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    }
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")]
        links = [attrs[name] for name in ("href", "src", "xlink:href", "action") if name in attrs]
        assert all(link.startswith("#") for link in links)
    assert not re.findall(r"url\((?!#)|@import", plain_html())


def test_hostile_text_is_only_text() -> None:
    site, label = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'
    results = example_results()
    changed = (replace(results.proportions[0], label=label), *results.proportions[1:])
    hostile = html(
        sites=(site, "=1+1", "{{ 7 * 7 }}"),
        provenance=Provenance(sites=(SiteData("</style><script>", None, None, up_to_date=False),)),
        study_title="</title><script>alert(2)</script>",
        proportions=changed,
        flow=(FlowStep("a", "</svg><script>x", "main", None, 1),),
        quality=(QualityItem("a\u202eb\x00", "--><script>", "]]>", 1),),
        survival=(replace(results.survival[0], label="<b>$\\frac{1}{2}$"),),
    )
    page = Page(hostile)
    assert not page.tags("script")
    assert not page.tags("img")
    assert not page.tags("b")
    for text in (
        f"3: {site}, =1+1, {{{{ 7 * 7 }}}}",
        label,
        "</svg><script>x",
        "a\ufffdb\ufffd",
        "<b>$\\frac{1}{2}$",
    ):
        assert text in page.text


# That it is accessible


def test_every_id_is_unique_and_every_reference_has_a_target(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'(?:url\(#|href="#)([^")]*)', plain_html()))
    wanted |= {attrs["aria-labelledby"] for _, attrs in page.elements if "aria-labelledby" in attrs}
    assert wanted <= set(ids)


def test_header_cells_have_a_scope_and_pictures_have_words(page: Page) -> None:
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.tags("th"))
    for attrs in page.tags("svg"):
        assert attrs.get("aria-hidden") == "true" or (attrs.get("role") == "img" and "aria-labelledby" in attrs)


def test_every_figure_has_its_data_as_a_table(page: Page) -> None:
    # Flow, two curves, adverse events.
    assert len(page.tags("figure")) == 4
    assert page.text.count("Data of the figure") + page.text.count("Patients by term, phase and worst grade") == 4
    assert "2.0 33 1 0 97.0" in page.text  # day 60 of 33 patients: 32/33


# That it is the same


def test_the_same_release_gives_the_same_bytes() -> None:
    assert html() == plain_html()


def test_the_bytes_do_not_depend_on_the_process() -> None:
    program = (
        "import hashlib; from tests.unit.test_report_html import html;"
        "print(hashlib.sha256(html().encode()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    other = {**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=root, env=other, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == hashlib.sha256(plain_html().encode()).hexdigest()


def test_only_a_release_is_rendered() -> None:
    with pytest.raises(TypeError, match=r"disclosure\.control\.release"):
        render_html(example_results(), STUDY, 1)  # type: ignore[arg-type]
