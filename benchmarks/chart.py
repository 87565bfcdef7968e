"""Charts as SVG that can be read on light and on dark pages.

Text stays text. The background is transparent, and the one grey that is used for text
has the same contrast (4.3 to 1) to white and to the documentation's dark page.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import msgspec
from matplotlib.figure import Figure

from benchmarks.measure import Spread, spread_of
from benchmarks.results import CaseResult, Results

__all__ = ["digest", "write", "write_overview", "write_series"]

_GREY: Final = "#797979"
_FAINT: Final = "#8a8a8a55"
_OURS: Final = "#2f8fd0"
_PEER: Final = "#9a9a9a"
_MISSED: Final = "#d9822b"
_DASHES: Final = ("-", "--", ":", "-.")
_P95: Final = "p95 ms"
_LOG_FROM: Final = 20
"""Rates that differ by more than this are shown on a logarithmic axis."""
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pend_storage",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _GREY,
    "axes.labelcolor": _GREY,
    "axes.edgecolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


def digest(data: object) -> str:
    """Digest of the numbers that a chart shows, stored in the file."""
    return hashlib.sha256(msgspec.json.encode(data)).hexdigest()[:16]


def write(path: Path, case: CaseResult) -> None:
    """The rate of each contender, with its quartiles.

    As bars; or as dots on a logarithmic axis, on which the length of a bar says nothing.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(len(case.measured))
        shown = case.measured[::-1]
        rates = [each.spread.median for each in shown]
        is_wide = max(rates) > _LOG_FROM * min(rates)
        for place, each in enumerate(shown):
            colour = _OURS if each is case.measured[0] else _PEER
            _draw(axes, place, each.spread, colour, dots=is_wide)
        axes.set_yticks(range(len(shown)), [each.name for each in shown])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        if is_wide:
            axes.set_xscale("log")
            axes.set_xlim(left=min(rates) / 2, right=max(rates) * 4)
        else:
            axes.set_xlim(0, max(rates) * 1.25)
        axes.set_xlabel(f"{case.unit} per second, median and quartiles")
        _save(figure, path, case.title, digest(case.measured))


def write_overview(path: Path, results: Results) -> None:
    """Every ratio that is aimed at, as a multiple of its aim."""
    rows = [
        (f"{case.title}: {each.subject} / {each.base}", each)
        for case in results.cases
        for each in case.comparisons
        if each.aim is not None and each.base is not None
    ][::-1]
    if not rows:
        return
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(len(rows), height=0.36, width=9.5)
        for place, (_, each) in enumerate(rows):
            aim = each.aim or 1
            median, low, high = (
                aim / value if each.detail else value / aim
                for value in (each.spread.median, each.spread.q1, each.spread.q3)
            )
            colour = _OURS if each.met else _MISSED
            axes.plot([low, high], [place, place], color=colour, linewidth=2)
            axes.plot([median], [place], "o", color=colour, markersize=7)
        axes.axvline(1, color=_GREY, linewidth=1, linestyle="--")
        axes.set_xscale("log")
        ticks = [0.25, 0.5, 1, 2, 4, 8]
        axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_xlabel("measured, as a multiple of the aim")
        _save(figure, path, "Measured ratios and their aims", digest(results.cases))


def write_series(path: Path, cases: Sequence[CaseResult]) -> None:
    """Rates and 95th percentiles by the number of clients, on logarithmic axes.

    Of those contenders that have run with every number of clients.
    """
    lines = {
        name: [
            next((m for m in case.measured if m.name == name), None) for case in cases
        ]
        for name in (each.name for each in cases[0].measured)
    }
    whole = {n: [m for m in line if m] for n, line in lines.items() if all(line)}
    clients = [case.clients or 0 for case in cases]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.5, 4.2), layout="constrained")
        for place, (axes, what) in enumerate(
            zip(
                figure.subplots(1, 2),
                (f"{cases[0].unit} per second", _P95),
                strict=True,
            )
        ):
            for turn, (name, line) in enumerate(whole.items()):
                values = [m.details.get(_P95, ()) if place else m.rates for m in line]
                if all(values):
                    _plot_line(axes, clients, values, name=name, turn=turn)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(clients, [f"{count:,}" for count in clients])
            ticks = _ticks(*axes.get_ylim())
            axes.set_yticks(ticks, [f"{tick:,g}" for tick in ticks])
            axes.minorticks_off()
            axes.grid(color=_FAINT, linewidth=0.6)
            axes.set_xlabel("clients")
            axes.set_title(what, fontsize=11)
        axes.legend(frameon=False, fontsize=9)
        tied = digest([case.measured for case in cases])
        _save(figure, path, "Rates and waits by the number of clients", tied)


def _ticks(low: float, high: float) -> list[float]:
    """One, two and five times the powers of ten in between."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = (digit * 10.0**power for power in powers for digit in (1, 2, 5))
    return [tick for tick in ticks if low <= tick <= high]


def _plot_line(
    axes: Any,
    clients: Sequence[int],
    values: Sequence[Sequence[float]],
    *,
    name: str,
    turn: int,
) -> None:
    """Medians with their quartiles; ours comes first, and is coloured."""
    spreads = [spread_of(each) for each in values]
    medians = [each.median for each in spreads]
    below = [each.median - each.q1 for each in spreads]
    above = [each.q3 - each.median for each in spreads]
    axes.errorbar(
        clients,
        medians,
        yerr=[below, above],
        label=name,
        color=_PEER if turn else _OURS,
        linestyle=_DASHES[turn % len(_DASHES)],
        marker="o",
        markersize=5,
        linewidth=1.8,
    )


def _canvas(rows: int, *, height: float = 0.46, width: float = 8.0) -> tuple[Any, Any]:
    figure = Figure(figsize=(width, 0.9 + height * rows), layout="constrained")
    axes = figure.subplots()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _draw(axes: Any, place: int, spread: Spread, colour: str, *, dots: bool) -> None:
    if dots:
        axes.plot([spread.q1, spread.q3], [place, place], color=colour, linewidth=2.5)
        axes.plot([spread.median], [place], "o", color=colour, markersize=9)
    else:
        axes.barh(place, spread.median, height=0.62, color=colour)
        axes.plot([spread.q1, spread.q3], [place, place], color=_GREY, linewidth=1.5)
    axes.annotate(
        f"{spread.median:,.0f}" if spread.median >= 10 else f"{spread.median:.1f}",
        (max(spread.median, spread.q3), place),
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
    )


def _save(figure: Any, path: Path, title: str, tied: str) -> None:
    figure.savefig(
        path,
        format="svg",
        transparent=True,
        metadata={"Date": None, "Title": title, "Description": f"data {tied}"},
    )
    text = path.read_text()
    path.write_text("".join(line.rstrip() + "\n" for line in text.splitlines()))
