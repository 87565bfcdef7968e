"""The rules of the alerts, as Prometheus itself reads and evaluates them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pend_storage.cli._app import run
from pend_storage.errors import ConfigError
from pend_storage.operations.alerts import ALERTS, RUNBOOK, Alert, rules

Promtool = Callable[..., subprocess.CompletedProcess[str]]

BY_NAME: Final = {alert.name: alert for alert in ALERTS}


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Promtool:
    """Runs promtool in a directory with the rules; the directory is its ``args[0]``."""
    program = shutil.which("promtool")
    if program is None:
        reason = "promtool is not installed (Debian: apt-get install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    def call(
        *arguments: str, text: str | None = None, test: Any = None
    ) -> subprocess.CompletedProcess[str]:
        directory = tmp_path_factory.mktemp("rules")
        (directory / "rules.yml").write_text(rules() if text is None else text)
        (directory / "test.yml").write_text(json.dumps(test))
        return subprocess.run(
            [program, *arguments],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def expected(alert: Alert, value: str = "", **labels: str) -> dict[str, Any]:
    """An alert as promtool wants it."""
    summary = alert.summary.replace("{{ $value }}", value).replace(
        "{{ $labels.environment }}", labels.get("environment", "")
    )
    return {
        "exp_labels": {"severity": alert.severity, **labels},
        "exp_annotations": {
            "summary": summary,
            "description": alert.symptom,
            "runbook_url": f"{RUNBOOK}#{alert.anchor}",
        },
    }


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    own = {"environment": "production", **labels}
    text = ",".join(f'{key}="{value}"' for key, value in own.items())
    return {"series": f"{name}{{{text}}}", "values": values}


PHASE: Final = series("pend_storage_phase", "1x60", phase="parallel")
CASES: Final[dict[str, tuple[list[dict[str, str]], dict[str, str | None]]]] = {
    "PendPrimaryUnreachable": (
        [
            PHASE,
            series("pend_storage_store_up", "1x4 0x60", store="json", role="primary"),
            series("pend_storage_store_up", "1x60", store="postgres", role="secondary"),
        ],
        {"1m": None, "2m": None, "3m": "0"},
    ),
    "PendSwitchStuck": (
        [PHASE, series("pend_storage_role", "0x4 1x60", store="json", role="fenced")],
        {"1m": None, "2m": "1"},
    ),
    "PendLagHigh": (
        [PHASE, series("pend_storage_lag_seconds", "30x4 31x60")],
        {"1m": None, "3m": None, "4m": "31"},
    ),
    "PendLagCritical": (
        [PHASE, series("pend_storage_lag_seconds", "300x4 301x60")],
        {"1m": None, "2m": None, "3m": "301"},
    ),
    "PendRetentionEndsSoon": (
        [
            PHASE,
            series("pend_storage_lag_seconds", "300x4 310x60"),
            series("pend_storage_change_log_retention_seconds", "600x60"),
        ],
        {"1m": None, "5m": None, "7m": "0.51"},
    ),
    "PendDivergence": (
        [PHASE, series("pend_storage_divergences_open", "0x4 2x60")],
        {"1m": None, "3m": "2"},
    ),
    "PendMetricsGone": (
        [series("pend_storage_phase", "1x4 stale", phase="parallel")],
        {"1m": None, "5m": None, "8m": "1"},
    ),
}
"""Series of each alert, 15 s a value, and its value at some times; None: it is silent."""


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(BY_NAME)
    assert len(BY_NAME) == len(ALERTS)


def test_prometheus_accepts_the_rules(promtool: Promtool) -> None:
    done = promtool("check", "rules", "rules.yml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def case_of(name: str, **changes: Any) -> Any:
    """A test of promtool for one alert."""
    inputs, times = CASES[name]
    where = {} if name == "PendMetricsGone" else {"environment": "production"}
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": inputs,
                "alert_rule_test": [
                    {
                        "eval_time": at,
                        "alertname": name,
                        "exp_alerts": []
                        if value is None
                        else [expected(BY_NAME[name], value, **where)],
                    }
                    for at, value in times.items()
                ],
            }
        ],
    }


@pytest.mark.parametrize("name", CASES)
def test_an_alert_goes_off_when_it_should_and_not_before(
    promtool: Promtool, name: str
) -> None:
    done = promtool("test", "rules", "test.yml", test=case_of(name))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("PendLagHigh", "lag_seconds) > 30", "lag_seconds) > 60"),
        ("PendLagHigh", "for: 2m", "for: 4m"),
        ("PendLagCritical", "> 300", "> 200"),
        ("PendPrimaryUnreachable", "primary", "secondary"),
        ("PendDivergence", "> 0", "> 2"),
        ("PendSwitchStuck", "fenced", "primary"),
        ("PendRetentionEndsSoon", "> 0.5", "> 0.6"),
        ("PendMetricsGone", "for: 5m", "for: 15m"),
    ],
)
def test_a_changed_rule_would_be_noticed(
    promtool: Promtool, name: str, before: str, after: str
) -> None:
    text = rules()
    assert before in text

    done = promtool(
        "test",
        "rules",
        "test.yml",
        text=text.replace(before, after),
        test=case_of(name),
    )

    assert done.returncode != 0


def test_the_rules_are_yaml_with_what_an_operator_needs() -> None:
    (group,) = yaml.safe_load(rules())["groups"]

    assert [rule["alert"] for rule in group["rules"]] == list(BY_NAME)
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])


def test_a_runbook_of_ones_own_is_named() -> None:
    (group,) = yaml.safe_load(rules("https://wiki.example/pend?a=b"))["groups"]

    for rule, alert in zip(group["rules"], ALERTS, strict=True):
        found = rule["annotations"]["runbook_url"]
        assert found == f"https://wiki.example/pend?a=b#{alert.anchor}"


@pytest.mark.parametrize(
    "runbook", ["", "page.md", "ftp://host/page", "https://", "https://h/p#a", "x:\n y"]
)
def test_a_runbook_that_is_no_page_is_refused(runbook: str) -> None:
    with pytest.raises(ConfigError, match="not the address of a page"):
        rules(runbook)


# -- the command ------------------------------------------------------------------------------


def test_the_command_prints_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["alerts"]) == 0

    assert capsys.readouterr().out == rules()


def test_the_command_prints_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    page = "https://wiki.example/pend"

    assert run(["alerts", "--json", "--runbook", page]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["rules"] == rules(page)
    assert document["runbook"] == page
    assert [alert["name"] for alert in document["alerts"]] == list(BY_NAME)


def test_the_command_refuses_a_runbook_that_is_no_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["alerts", "--runbook", "notes.md"]) == 2

    assert "not the address of a page" in capsys.readouterr().err


def test_the_command_needs_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run(["alerts"]) == 0
    assert capsys.readouterr().err == ""
