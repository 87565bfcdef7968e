"""The page of the metrics, the alerts and the dashboards name what is exported, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pend_storage.instrumentation._catalogue import METRICS, Metric
from pend_storage.operations.alerts import ALERTS, rules

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/reference/metrics.md"
BOARDS: Final = sorted((ROOT / "docs/dashboards").glob("*.json"))
NAME: Final = re.compile(r"\bpend_(?:storage|backup)_\w+")
LABELS: Final = re.compile(r"(\w+)(?==~?\"|!=)")
GROUPED: Final = re.compile(r"by \(([\w, ]+)\)")
UNUSED: Final[frozenset[str]] = frozenset()
"""Metrics that are on no dashboard and in no alert."""


def exported() -> dict[str, Metric]:
    """Every name that a scrape may have, with its metric."""
    names: dict[str, Metric] = {}
    for metric in METRICS:
        ends = {
            "histogram": ("_bucket", "_count", "_sum"),
            "summary": ("_count", "_sum"),
        }.get(metric.kind, ("",))
        names |= {f"{metric.name}{end}": metric for end in ends}
    return names


EXPORTED: Final = exported()


def board_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def panels(path: Path) -> list[Any]:
    """The panels that show something."""
    return [panel for panel in board_of(path)["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Place and PromQL of every expression of the dashboards and the alerts."""
    for alert in ALERTS:
        yield alert.name, alert.expression
    for path in BOARDS:
        for panel in panels(path):
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in board_of(path)["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{path.name}: {variable['name']}", variable["definition"]


EXPRESSIONS: Final = list(expressions())


@pytest.mark.parametrize(("place", "expression"), EXPRESSIONS)
def test_an_expression_names_metrics_and_labels_that_are_exported(
    place: str, expression: str
) -> None:
    names = NAME.findall(expression)
    assert names, place

    known = {"environment", "le"}
    for name in names:
        assert name in EXPORTED, f"{place}: {name} is not exported"
        known |= set(EXPORTED[name].labels)
    used = set(LABELS.findall(expression))
    for group in GROUPED.findall(expression):
        used |= {label.strip() for label in group.split(",")}
    assert used <= known, f"{place}: {used - known} are no labels of {names}"


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    used = {
        EXPORTED[name].name
        for _, expression in EXPRESSIONS
        for name in NAME.findall(expression)
        if name in EXPORTED
    }

    assert {metric.name for metric in METRICS} - used == UNUSED


def test_the_page_lists_every_metric_with_its_type_and_labels() -> None:
    rows = re.findall(
        r"^\| `(pend_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert rows == [
        (
            metric.name,
            metric.kind,
            ", ".join(f"`{label}`" for label in metric.labels) or "-",
            metric.meaning,
        )
        for source in ("pair", "backups", "calls")
        for metric in METRICS
        if metric.source == source
    ]


JOB_TOTAL: Final = "pend_storage_job_total"


def test_names_follow_the_conventions_of_prometheus() -> None:
    for metric in METRICS:
        is_total = metric.name.endswith("_total")
        # The total of a job is what it has to do; it is no sum of events.
        assert is_total == (metric.kind == "counter") or metric.name == JOB_TOTAL
        assert metric.meaning.endswith("."), metric.name
        # Prometheus sets these for every target: a metric's own would be renamed.
        assert not {"job", "instance", "environment"} & set(metric.labels), metric.name


# -- the dashboards -------------------------------------------------------------------------


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.name)
def test_a_dashboard_has_what_grafana_needs(path: Path) -> None:
    board = board_of(path)

    assert isinstance(board["schemaVersion"], int)
    assert re.fullmatch(r"[a-z0-9-]{1,40}", board["uid"])
    assert board["title"]
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert {"datasource", "environment"} <= variables
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels(path):
        assert {"id", "type", "title", "gridPos", "targets", "fieldConfig"} <= set(
            panel
        )
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.name)
def test_panels_lie_in_the_grid_and_on_no_other(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board_of(path)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y)
            for x in range(place["w"])
            for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.name)
def test_every_expression_of_a_dashboard_is_of_the_chosen_environment(
    path: Path,
) -> None:
    for panel in panels(path):
        for target in panel["targets"]:
            selectors = re.findall(r"pend_\w+(\{[^}]*\})?", target["expr"])
            assert all('environment="$environment"' in each for each in selectors), (
                panel["title"]
            )


# -- the runbook ------------------------------------------------------------------------------

RUNBOOK: Final = (ROOT / "docs/how-to/alerts.md").read_text(encoding="utf-8")
SECTION: Final = re.compile(r"^## (.+)\n\n(```bash\n(.+)\n```)?", re.MULTILINE)


def anchor(heading: str) -> str:
    """The anchor of a heading, as the documentation and GitHub make it."""
    return heading.lower().replace(" ", "-")


def test_every_alert_has_a_section_that_begins_with_a_command() -> None:
    sections = {
        anchor(title): command for title, _, command in SECTION.findall(RUNBOOK)
    }

    assert {alert.anchor for alert in ALERTS} == set(sections)
    for name, command in sections.items():
        assert command.startswith("pend-storage "), name


def test_the_runbook_has_the_alerts_as_they_are() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| .+ \| (\w+) \| (\w+) \| \[.*\]\(#([\w-]+)\) \|$",
        RUNBOOK,
        re.MULTILINE,
    )

    assert rows == [(a.name, a.lasting, a.severity, a.anchor) for a in ALERTS]


def test_the_address_of_the_runbook_is_that_of_the_page() -> None:
    (address,) = {
        line.partition("#")[0] for line in re.findall(r"runbook_url: \"(.*)\"", rules())
    }

    path = address.partition("/blob/main/")[2]
    assert (ROOT / path).read_text(encoding="utf-8") == RUNBOOK
