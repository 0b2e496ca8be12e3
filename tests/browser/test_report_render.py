"""The report in a real browser: headless Chromium, driven over the DevTools protocol through a pipe.

Shown at desktop and phone width, without a request beyond the file itself, without script and without a
complaint in the log; printed to A4. Pictures go to the test's temporary folder.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from analytics.estimates.model import FlowStep
from analytics.report.html import render_html
from mappers.study import load_study
from tests.example_release import example_release, published

pytestmark = pytest.mark.chromium

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
DEADLINE = 60.0
A4_POINTS = (595.3, 841.9)


class Browser:
    """Chromium behind a pipe: `call` sends a command, `events` keeps what the page reported meanwhile."""

    def __init__(self, program: str, profile: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        script = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", script, program, *ARGUMENTS, f"--user-data-dir={profile}"],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def open(self, path: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait_for("Page.loadEventFired")

    def close(self) -> None:
        os.close(self._commands)
        os.close(self._answers)
        self._process.terminate()
        self._process.wait(timeout=DEADLINE)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + DEADLINE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium did not answer in time"
            data = os.read(self._answers, 1 << 20)
            assert data, "Chromium ended before it answered"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        reason = f"no Chromium: none of {', '.join(NAMES)} is on the PATH"
        if os.environ.get("PERIOP_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(params=[0, 11], ids=["open", "suppressed"])
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    page = render_html(
        example_release(request.param), load_study("alneo"), 3, *published(), statement="Invented patients."
    )
    path.write_text(page, encoding="utf-8")
    return path


def picture(browser: Browser, path: Path) -> np.ndarray:
    data = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
    path.write_bytes(base64.b64decode(data))
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def size(browser: Browser, width: int, *, phone: bool) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)


def test_opens_alone_and_runs_nothing(browser: Browser, report: Path) -> None:
    size(browser, 1100, phone=False)
    browser.open(report)
    requests = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert requests == [report.as_uri()]
    assert browser.evaluate("document.scripts.length") == 0
    complaints = [e for e in browser.events if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert complaints == []


def test_the_policy_stops_a_script_that_was_slipped_in(browser: Browser, report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    report.write_text(page.replace("</main>", "<script>document.title = 'ran'</script></main>"), encoding="utf-8")
    browser.open(report)
    assert browser.evaluate("document.title").startswith("Perioperative alectinib")


def test_shows_something_and_its_pictures(browser: Browser, report: Path, tmp_path: Path) -> None:
    size(browser, 1100, phone=False)
    browser.open(report)
    grey = picture(browser, tmp_path / "report.png")
    assert grey.shape[1] == 1100
    assert (grey < 128).mean() > 0.005
    boxes = browser.evaluate(
        "[...document.querySelectorAll('svg[role=img], .flow')].map(s => s.getBoundingClientRect().height)"
    )
    assert boxes
    assert min(boxes) > 100


BOXES = """[...document.querySelectorAll('.flow .box, .flow .left')].map(e => {
  const r = e.getBoundingClientRect();
  return {text: e.textContent, aside: e.matches('.left'), wide: e.scrollWidth > e.clientWidth,
          left: r.left, top: r.top + scrollY, right: r.right, bottom: r.bottom + scrollY};
})"""


@pytest.mark.parametrize("width", [1100, 375], ids=["desktop", "phone"])
def test_the_boxes_of_the_flow_stand_below_each_other_and_do_not_overlap(
    browser: Browser, report: Path, width: int
) -> None:
    size(browser, width, phone=width < 400)
    browser.open(report)
    boxes = browser.evaluate(BOXES)
    trunk, aside = ([box for box in boxes if box["aside"] is side] for side in (False, True))
    labels = ["Screened", "Enrolled", "Resected", "Began adjuvant treatment", "Completed the adjuvant course"]
    assert [box["text"].partition(" n\N{NO-BREAK SPACE}")[0] for box in trunk] == labels
    assert len(aside) == (4 if "min_cell = 11" not in report.read_text(encoding="utf-8") else 0)
    for box in boxes:
        assert box["left"] >= 0
        assert box["right"] <= width
        assert not box["wide"]
    # In the order of reading each begins below the end of the one before, those who left to the right of the trunk.
    assert all(a["bottom"] <= b["top"] for a, b in pairwise(boxes))
    assert all(box["left"] > trunk[0]["left"] + 10 for box in aside)


@pytest.mark.parametrize(
    "label", ["x" * 100, "NO DOSE OF THE STUDY DRUG OF ANY KIND", "肺癌の確定診断がない患者または不明の患者"]
)
def test_a_long_reason_stays_in_its_box(browser: Browser, tmp_path: Path, label: str) -> None:
    steps = (FlowStep("a", label, "main", None, 3), FlowStep("b", label, "excluded", "a", 1))
    page = render_html(example_release(flow=steps), load_study("alneo"), 3)
    (tmp_path / "long.html").write_text(page, encoding="utf-8")
    size(browser, 375, phone=True)
    browser.open(tmp_path / "long.html")
    assert [box["wide"] for box in browser.evaluate(BOXES)] == [False, False]
    assert browser.evaluate("document.documentElement.scrollWidth") <= 375


def test_fits_a_phone(browser: Browser, report: Path, tmp_path: Path) -> None:
    size(browser, 375, phone=True)
    browser.open(report)
    picture(browser, tmp_path / "phone.png")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 375
    assert browser.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 16


def test_prints_to_a4(browser: Browser, report: Path, tmp_path: Path) -> None:
    size(browser, 1100, phone=False)
    browser.open(report)
    data = browser.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
    pdf = base64.b64decode(data)
    (tmp_path / "report.pdf").write_bytes(pdf)
    assert pdf.startswith(b"%PDF")
    pages = re.findall(rb"/Type\s*/Page\b", pdf)
    assert 4 <= len(pages) <= 14
    boxes = [tuple(map(float, box.split()))[2:] for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", pdf)]
    assert len(boxes) == len(pages)
    assert all(abs(w - A4_POINTS[0]) < 1 and abs(h - A4_POINTS[1]) < 1 for w, h in boxes)
