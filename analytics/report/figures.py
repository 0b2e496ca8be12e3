"""Draw the figures of a release as inline SVG: Kaplan-Meier curves and adverse events by worst grade.

Kaplan-Meier figures follow KMunicate (Morris et al. 2019, doi:10.1136/bmjopen-2019-030215): confidence
band, censor marks, and numbers at risk, with events and censored so far, aligned under the axis. The same
release gives the same bytes: fixed salt, no date.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from analytics.disclosure.control import Released
from analytics.estimates.model import CurvePoint, Survival
from analytics.report import wording
from analytics.report.grades import GRADES, MERGED, Bar, GradeTable, Phase, grade_table

# The colours of report.css, and grades from light to dark: they stay apart in black and white.
INK, MUTED, RULE, BLUE = "#1d2733", "#55606e", "#c9d0d8", "#0b5c8f"
GRADE_COLOURS = dict(zip(GRADES, ("#bcd9e9", "#86bcdc", "#d9822b", "#a84315", "#5a160a", "#d5d9dd"), strict=True))
GRADE_INK = dict(zip(GRADES, (INK, INK, INK, "#ffffff", "#ffffff", INK), strict=True))
# Merged grades lie between the colours of theirs; grades that are not split have none of them.
GRADE_COLOURS |= dict(zip(MERGED, ("#a1cbe2", "#c15c20", "#b9c4cb"), strict=True))
GRADE_INK |= dict(zip(MERGED, (INK, "#ffffff", INK), strict=True))
# The fonts of report.css. Matplotlib measures with a font of its own, which every installation has.
FONTS = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
SETTINGS: dict[Any, Any] = {
    # Ids are hashes of a random salt unless one is given: the same release must give the same bytes.
    "svg.hashsalt": "periop",
    # Text stays text, for screen readers and for search.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    # A label with two dollar signs is no formula.
    "text.parse_math": False,
}
# Months: a reader counts in quarters, halves and years.
TICK_STEPS = (1, 2, 3, 6, 12, 24, 60)
MAX_TICKS = 9
# As matplotlib writes it into a style attribute, with either quotation mark.
MEASURED_FONT = re.compile("(?:&apos;|')DejaVu Sans(?:&apos;|')(?:, sans-serif)?")
ID_OR_LINK = re.compile(r'(\bid="|url\(#|href="#)')


@dataclass(frozen=True)
class RiskColumn:
    """One column of the table under a curve: at `t` months `at_risk`; `events` and `censored` before `t`."""

    t: float
    at_risk: int
    events: int
    censored: int


def kaplan_meier(released: Released, curve: Survival, prefix: str) -> Markup | None:
    """Return the Kaplan-Meier figure of `curve`, one of `released`; None where no step of it is released.

    Raises `TypeError` for anything but a `Released`, `ValueError` where `curve` is not one of its curves.
    """
    require_released(released)
    if curve not in released.survival:
        raise ValueError(f"curve {curve.id!r} is not part of the release: pass one of released.survival")
    if not drawable(curve):
        return None
    title = f"{curve.label}, Kaplan–Meier curve"
    return _svg((7.4, 4.75), lambda figure: _draw_curve(figure, curve, coarsened(released)), prefix, title)


def adverse_events(released: Released, prefix: str) -> Markup | None:
    """Return stacked bars of worst grades by term, one panel a phase; None where no bar is released.

    Raises `TypeError` where `released` is not a `Released`.
    """
    require_released(released)
    table = grade_table(released.proportions)
    if not any(bar.missing is None for bars in table.bars.values() for bar in bars.values()):
        return None
    # A controlled release leaves out terms listed only because they were seen: their absence says nothing.
    absent = "not shown" if coarsened(released) else "none recorded"
    size, title = (7.4, 1.25 + 0.36 * len(table.bars)), "Adverse events by worst grade and phase"
    return _svg(size, lambda figure: _draw_bars(figure, table, absent), prefix, title)


def require_released(released: object) -> None:
    """Raise `TypeError` for anything but the output of disclosure control."""
    if not isinstance(released, Released):
        given = type(released).__name__
        raise TypeError(
            f"only a Released may be rendered, not {given}: call analytics.disclosure.control.release first"
        )


def drawable(curve: Survival) -> bool:
    """Return whether at least one step after time 0 is released."""
    return curve.status == "ok" and any(point.t > 0 for point in curve.curve)


def risk_table(points: tuple[CurvePoint, ...], times: tuple[float, ...] | None) -> tuple[RiskColumn, ...]:
    """Return the numbers at risk at `times` (months), with the events and censored before.

    Without `times`, the numbers just after each step: nothing is known of the times between the steps of a
    coarsened curve. Each column adds up to the patients at the start.
    """
    columns = []
    for t in [point.t for point in points] if times is None else times:
        past = [point for point in points if point.t < t or (times is None and point.t == t)]
        events, censored = sum(p.events for p in past), sum(p.censored for p in past)
        columns.append(RiskColumn(t, points[0].at_risk - events - censored, events, censored))
    return tuple(columns)


def coarsened(released: Released) -> bool:
    """Return whether disclosure control has merged steps of the curves of `released`."""
    return released.min_cell > 1


def ticks(last: float) -> tuple[float, ...]:
    """Return the ticks of a time axis in months from 0 to at most `last`, at steps of 1, 2, 3, 6, 12, 24 or 60."""
    step = next((s for s in TICK_STEPS if last / s <= MAX_TICKS - 1), TICK_STEPS[-1])
    return tuple(float(step * i) for i in range(int(last // step) + 1))


def _svg(size: tuple[float, float], draw: Callable[[Figure], None], prefix: str, title: str) -> Markup:
    """Draw on a figure of `size` inches; return one inline SVG element with a title for screen readers."""
    target = io.StringIO()
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        # Text stays text: the reader's font draws a letter that ours, used only to measure, does not have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = target.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # Inside tags only, so that no text of a label changes: ids get a prefix, since figures share a page.
    body = re.sub(r"<[^>]*>", lambda tag: MEASURED_FONT.sub(FONTS, ID_OR_LINK.sub(rf"\g<1>{prefix}-", tag[0])), body)
    # No fixed size: the page decides.
    box = re.search(r'viewBox="[^"]*"', body)
    opening = f'<svg role="img" aria-labelledby="{prefix}-title" class="figure" {box[0] if box else ""}>'
    named = f'{opening}\n<title id="{prefix}-title">{escape(wording.clean(title))}</title>'
    drawing = body[body.index(">") + 1 :].strip()
    return Markup(named + drawing)  # noqa: S704 - matplotlib has escaped every text of the drawing


def _draw_curve(figure: Figure, curve: Survival, coarse: bool) -> None:
    points = curve.curve
    axis_ticks = ticks(points[-1].t)
    # The lower 30 % is for the axis label and the three lines of numbers at risk.
    axes = figure.add_axes((0.125, 0.305, 0.86, 0.67))
    axes.set_xlim(0, points[-1].t * 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xticks(axis_ticks, [f"{t:g}" for t in axis_ticks])
    axes.set_yticks([i / 5 for i in range(6)], [f"{20 * i}" for i in range(6)])
    axes.set_ylabel(f"{wording.clean(curve.label)} (%)")
    axes.set_xlabel("Months from first dose")
    _bare(axes, grid="y")
    _draw_steps(axes, points, marks=not coarse)
    # The median is read where the curve meets one half.
    if curve.median is not None:
        axes.plot([0, curve.median, curve.median], [0.5, 0.5, 0], color=MUTED, lw=0.8, ls=(0, (3, 3)))
    _draw_risk_table(axes, risk_table(points, None if coarse else axis_ticks))


def _draw_steps(axes: Axes, points: tuple[CurvePoint, ...], marks: bool) -> None:
    """Draw the step function with its band; censor marks only where the whole curve is released."""
    t = [p.t for p in points]
    # A gap where there is no limit: nothing is known of the band where the curve has come down to 0.
    low = [float("nan") if p.low is None else p.low for p in points]
    high = [float("nan") if p.high is None else p.high for p in points]
    axes.fill_between(t, low, high, step="post", color=BLUE, alpha=0.16, lw=0)
    axes.plot(t, [p.s for p in points], drawstyle="steps-post", color=BLUE, lw=1.8, solid_joinstyle="miter")
    censored = [p for p in points if p.censored > 0] if marks else []
    # A coarsened curve knows no times of single patients.
    axes.plot([p.t for p in censored], [p.s for p in censored], "|", color=BLUE, ms=7, mew=1.1)


def _draw_risk_table(axes: Axes, columns: tuple[RiskColumn, ...]) -> None:
    rows = (("At risk", "at_risk", INK), ("Events", "events", MUTED), ("Censored", "censored", MUTED))
    for i, (name, field, colour) in enumerate(rows):
        y = -0.235 - 0.075 * i
        axes.text(-0.035, y, name, transform=axes.transAxes, ha="right", va="center", color=colour)
        for column in columns:
            text, place = str(getattr(column, field)), axes.get_xaxis_transform()
            axes.text(column.t, y, text, transform=place, ha="center", va="center", color=colour)


def _bare(axes: Axes, grid: Literal["x", "y"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3)
    axes.grid(axis=grid, color=RULE, lw=0.5)
    axes.set_axisbelow(True)


def _draw_bars(figure: Figure, table: GradeTable, absent: str) -> None:
    # Panels side by side with one percent axis, so that bars of different phases can be compared by length.
    height = figure.get_figheight()
    left, right, between = 0.25, 0.015, 0.03
    width = (1 - left - right - between * (len(table.phases) - 1)) / len(table.phases)
    bottom, top = 0.5 / height, 1 - 0.72 / height
    sizes = {phase.id: phase.n for phase in table.phases}
    bars = [(bar, sizes[phase]) for phases in table.bars.values() for phase, bar in phases.items()]
    longest = max((100 * bar.total / n for bar, n in bars if n and bar.missing is None), default=0)
    # Room for the number after the longest bar. Not below 10 %: a single patient of many should not fill the panel.
    reach = max(longest * 1.45, 10)
    for i, phase in enumerate(table.phases):
        axes = figure.add_axes((left + i * (width + between), bottom, width, top - bottom))
        _draw_phase(axes, table, phase, reach, absent)
        if i == 0:
            _draw_terms(axes, tuple(table.bars))
    _draw_legend(figure, left, height, table)


def _draw_phase(axes: Axes, table: GradeTable, phase: Phase, reach: float, absent: str) -> None:
    axes.set_xlim(0, reach)
    axes.set_ylim(len(table.bars) - 0.5, -0.5)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True, min_n_ticks=2))
    axes.set_xlabel(f"% of {'n = ' + str(phase.n) if phase.n else 'population'} ({wording.clean(phase.population)})")
    axes.set_title(wording.clean(phase.name).capitalize(), loc="left", fontsize=10.5, fontweight="bold", pad=6)
    _bare(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    for row, bars in enumerate(table.bars.values()):
        if phase.id in bars:
            _draw_bar(axes, row, bars[phase.id], phase.n, reach)
        else:
            _write(axes, reach, row, absent)


def _draw_bar(axes: Axes, row: int, bar: Bar, n: int | None, reach: float) -> None:
    if bar.missing is not None or not n:
        word = wording.WORDS[bar.missing.status if bar.missing else "not_evaluable"]
        _write(axes, reach, row, word)
        return
    start = 0.0
    for grade, cell in sorted(bar.cells.items()):  # "1" to "5", then "unknown"
        width = 100 * (cell.x or 0) / n
        # No bar of width 0: its edge would show as a line.
        if width:
            axes.barh(row, width, 0.62, left=start, color=GRADE_COLOURS[grade], edgecolor="white", lw=0.7)
            middle, ink = start + width / 2, GRADE_INK[grade]
            axes.text(middle, row, str(cell.x), ha="center", va="center", color=ink, fontsize=8.5)
        start += width
    axes.text(start + reach * 0.015, row, f"{bar.total} ({wording.share(bar.total, n)})", va="center", fontsize=8.5)


def _write(axes: Axes, reach: float, row: int, word: str) -> None:
    """Write a word in place of a bar."""
    axes.text(reach * 0.015, row, word, va="center", color=MUTED, fontstyle="italic", fontsize=8.5)


def _draw_legend(figure: Figure, left: float, height: float, table: GradeTable) -> None:
    y = 1 - 0.2 / height
    figure.text(left, y, "Worst grade", va="center", ha="left", color=MUTED, fontsize=9)
    for i, (grade, heading) in enumerate(zip(table.grades, table.headings, strict=True)):
        x = left + 0.135 + 0.06 * i
        swatch = mpl.patches.Rectangle((x, y - 0.055 / height), 0.11 / 7.4, 0.11 / height, color=GRADE_COLOURS[grade])
        figure.add_artist(swatch)
        figure.text(x + 0.021, y, heading, va="center", ha="left", fontsize=9)


def _draw_terms(axes: Axes, terms: tuple[str, ...]) -> None:
    """Write each term left of its row, on two lines at most: the table has the whole term."""
    for row, term in enumerate(terms):
        lines = textwrap.wrap(wording.clean(term), 26, max_lines=2, placeholder="…")
        for i, line in enumerate(lines):
            y, place = row + 0.4 * (i - (len(lines) - 1) / 2), axes.get_yaxis_transform()
            axes.text(-0.02, y, line, transform=place, ha="right", va="center", fontsize=9)
