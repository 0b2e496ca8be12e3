"""The internal report in `<data_dir>/internal`: all figures without disclosure control, for the hospital's own people.

It lies outside of `releases/`, which alone is copied to targets; each of its sections and pages says that it is not for
release, and only the owner of the data folder can read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from connectors.lake.files import remove_unfinished, write_atomically

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from mappers.study import Study
    from schedules.release.published import PublishedFigures

NOTICE = "Internal: not for release"
NO_RELEASE = 0  # the number in results that are no release
REPORT, RESULTS = "report.html", "results.json"


def write_internal(internal: Released, study: Study, folder: Path, published: PublishedFigures) -> Path:
    """Write report.html and results.json of `internal`, which has every figure; return the report."""
    from analytics.report.html import render_html
    from analytics.results import as_json, same_figures

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = orjson.dumps(
        {"notice": NOTICE, **as_json(internal, NO_RELEASE)},
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )
    report, results = folder / REPORT, folder / RESULTS
    # Most nights change no figure, and a report takes longer than the rest of them.
    if not (report.is_file() and results.is_file() and same_figures(results.read_bytes(), content)):
        page = render_html(internal, study, NO_RELEASE, published.proportions, published.other, notice=NOTICE)
        for file, made in ((report, page), (results, content)):
            remove_unfinished(file)
            write_atomically(file, made)
    else:
        for file in (report, results):  # its age is counted since a run last confirmed it (`retention.internal_days`)
            file.touch()
    return report
