"""Alerts for a Prometheus server: the rules, each with its runbook. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = ["ALERTS", "RUNBOOK", "Alert", "rules"]

RUNBOOK: Final = (
    "https://github.com/pend-storage/pend_storage/blob/main/docs/how-to/alerts.md"
)
"""Page of the runbook; each alert has an anchor on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule of a Prometheus server."""

    name: str
    expression: str
    """In PromQL; it is true for each environment that is in trouble."""
    lasting: str
    """How long it must be true before the alert is sent, as Prometheus writes it."""
    severity: Literal["page", "ticket"]
    """``page``: wake an operator; ``ticket``: in working hours."""
    summary: str
    """What is wrong, in one line."""
    symptom: str
    """What users and operators notice, and what happens if nothing is done."""
    anchor: str
    """Of its section in the runbook."""


ALERTS: Final[tuple[Alert, ...]] = (
    Alert(
        name="PendPrimaryUnreachable",
        expression='max by (environment) (pend_storage_store_up{role="primary"}) == 0',
        lasting="1m",
        severity="page",
        summary="{{ $labels.environment }}: the primary store cannot be reached",
        symptom="Reads and writes fail with StoreUnavailable until it is back.",
        anchor="primary-unreachable",
    ),
    Alert(
        name="PendSwitchStuck",
        expression='max by (environment) (pend_storage_role{role="fenced"}) == 1',
        lasting="15s",
        severity="page",
        summary="{{ $labels.environment }}: a store is fenced, and writes wait",
        symptom="Writes wait for the end of a switch, and fail after switch_patience.",
        anchor="switch-stuck",
    ),
    Alert(
        name="PendLagHigh",
        expression="max by (environment) (pend_storage_lag_seconds) > 30",
        lasting="2m",
        severity="ticket",
        summary="{{ $labels.environment }}: the secondary is {{ $value }} s behind",
        symptom="Nothing is lost, but there is no way to the other store meanwhile.",
        anchor="lag",
    ),
    Alert(
        name="PendLagCritical",
        expression="max by (environment) (pend_storage_lag_seconds) > 300",
        lasting="1m",
        severity="page",
        summary="{{ $labels.environment }}: the secondary is {{ $value }} s behind",
        symptom="There is no way back while it lasts, and the change log grows.",
        anchor="lag",
    ),
    Alert(
        name="PendRetentionEndsSoon",
        expression=(
            "max by (environment) (pend_storage_lag_seconds"
            " / pend_storage_change_log_retention_seconds) > 0.5"
        ),
        lasting="5m",
        severity="page",
        summary=(
            "{{ $labels.environment }}: the lag has used up half of the change log's "
            "retention"
        ),
        symptom="Beyond the retention the secondary needs a new backfill.",
        anchor="retention",
    ),
    Alert(
        name="PendDivergence",
        expression="max by (environment) (pend_storage_divergences_open) > 0",
        lasting="1m",
        severity="ticket",
        summary="{{ $labels.environment }}: {{ $value }} records differ",
        symptom="After a switch, readers of these records would get other values.",
        anchor="divergence",
    ),
    Alert(
        name="PendMetricsGone",
        expression="absent(pend_storage_phase)",
        lasting="5m",
        severity="ticket",
        summary="no facts of any pair are exported",
        symptom="No other alert about a pair can go off.",
        anchor="gone",
    ),
)


def rules(runbook: str = RUNBOOK) -> str:
    """Return the rules as a file of a Prometheus server: YAML.

    Args:
        runbook: address of the page with the anchors.

    Raises:
        ConfigError: it is no address of a page.
    """
    parts = urlsplit(runbook)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.fragment:
        raise ConfigError(
            f"the runbook {shown(runbook)} is not the address of a page: give one that "
            "begins with https://, without an anchor."
        )
    lines = ["groups:", "- name: pend_storage", "  rules:"]
    for alert in ALERTS:
        lines += [
            f"  - alert: {alert.name}",
            f"    expr: {_text(alert.expression)}",
            f"    for: {alert.lasting}",
            "    labels:",
            f"      severity: {alert.severity}",
            "    annotations:",
            f"      summary: {_text(alert.summary)}",
            f"      description: {_text(alert.symptom)}",
            f"      runbook_url: {_text(f'{runbook}#{alert.anchor}')}",
        ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Return a text of YAML: every text of JSON is one."""
    return json.dumps(value, ensure_ascii=True)
