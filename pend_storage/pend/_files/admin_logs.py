"""``admin-logs.json``: audit log of the administrators' actions."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from typing_extensions import override

from pend_storage.legacy._convert import as_is, text
from pend_storage.legacy._mapping import Source
from pend_storage.legacy._members import Member, ObjectMapping, time_member
from pend_storage.pend._identity import record_id
from pend_storage.pend.records import AdminLog

__all__ = ["FILE", "WRAPPER", "AdminLogMapping"]

FILE: Final = "admin-logs.json"
WRAPPER: Final = "logs"

_RESOURCES: Final = (
    ("KYC", "kyc_application"),
    ("USER", "user"),
    ("OPPORTUNITY", "opportunity"),
    ("ASSET", "opportunity"),
    ("POOL", "opportunity"),
)
"""Word in an action, and the resource type that the action concerns."""
_LONGEST_ID: Final = 255


class AdminLogMapping(ObjectMapping):
    """Mapping of audit log entries; equal entries differ by their occurrence number."""

    collection = "admin_logs"
    record_type: ClassVar[type[Any]] = AdminLog
    members: ClassVar[tuple[Member, ...]] = (
        Member("action", "action", text, required=True),
        time_member("timestamp", "created_at", required=True),
        Member("data", "new_values", as_is),
    )
    computed: ClassVar[tuple[str, ...]] = (
        "resource_type",
        "resource_id",
        "ip_address",
        "ip_raw",
        "created_at_raw",
        "occurrence",
    )

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        # A copy of an entry is an entry of its own: content and number make the key.
        columns["id"] = _key_of(source.digest, source.occurrence)
        columns["occurrence"] = source.occurrence
        kept = columns["extra"].get("timestamp")
        columns["created_at_raw"] = kept if isinstance(kept, str) else None
        data = columns.get("new_values")
        if isinstance(data, Mapping):
            columns["resource_id"] = _resource_id(data)
            columns["ip_address"], columns["ip_raw"] = _address(data.get("ip"))
        columns["resource_type"] = _resource_type(
            columns["action"], known=columns.get("resource_id") is not None
        )

    @override
    def by_content(self, record: AdminLog) -> bool:
        return True

    @override
    def again(self, record: AdminLog, occurrence: int) -> AdminLog:
        key = _key_of(str(record.content_hash), occurrence)
        return replace(record, id=key, occurrence=occurrence)


def _key_of(content_hash: str, occurrence: int) -> str:
    return record_id("admin_logs", content_hash, str(occurrence))


def _resource_type(action: str, *, known: bool) -> str | None:
    for word, kind in _RESOURCES:
        if word in action.upper():
            return kind
    # Most entries concern opportunities; an access concerns nothing at all.
    return "opportunity" if known else None


def _resource_id(data: Mapping[str, Any]) -> str | None:
    for name in ("contractAddress", "id", "identityHash"):
        found = data.get(name)
        if type(found) is int or (isinstance(found, str) and found):
            shown = str(found)
            return shown if len(shown) <= _LONGEST_ID else None
    return None


def _address(value: Any) -> tuple[str | None, str | None]:
    """Split a text into IP address, or raw text if it is none."""
    if not isinstance(value, str):
        return None, None
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return None, value
    # A zone (fe80::1%eth0) is valid in Python, and refused by PostgreSQL's inet.
    return (None, value) if "%" in value else (value.lower(), None)
