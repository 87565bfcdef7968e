"""Personal fields: their values and whole keys stand in no message, event or report."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import pytest

import pend_storage as ps
from pend_storage.cli._logs import show_logs
from pend_storage.cli._tracebacks import show_tracebacks, traceback_text
from pend_storage.dualwrite import show_values
from pend_storage.events import Event
from pend_storage.pend import SCHEMA as PEND
from pend_storage.pend import User
from pend_storage.phases import Phase
from pend_storage.stores._inmemory.state import ChangedRow, LogRecord
from pend_storage.validation import validate
from tests.security.texts import HOSTILE, harm_of


@dataclass(frozen=True)
class Person:
    key: Annotated[str, ps.Personal()]
    phone: Annotated[str, ps.Personal()]
    note: str = ""


SCHEMA: Final = ps.Schema([ps.collection("people", Person, key="key")])
KEY: Final = "0x" + "5e" * 32
JANE: Final = Person(KEY, "+201234567890", "first")


@pytest.fixture
def sides() -> Iterator[tuple[ps.MemoryStore, ps.MemoryStore]]:
    """Two stores with one record, of which each field differs."""
    left, right = ps.MemoryStore(SCHEMA), ps.MemoryStore(SCHEMA)
    left.collection(Person).put(JANE)
    right.collection(Person).put(replace(JANE, phone="+209999999999", note="other"))
    yield left, right
    left.close()
    right.close()


def test_a_validation_reports_no_personal_value(
    sides: tuple[ps.MemoryStore, ps.MemoryStore],
) -> None:
    (found,) = validate(*sides).divergences

    assert [str(each) for each in found.differences] == [
        "phone: '<str of length 13>' is not '<str of length 13>'",
        "note: 'first' is not 'other'",
    ]
    assert found.key == KEY  # the operator's command needs it whole


def test_a_divergence_of_a_pair_hides_personal_values_and_the_key_in_the_log() -> None:
    events: list[Event] = []
    json_side, postgres_side = ps.MemoryStore(SCHEMA), ps.MemoryStore(SCHEMA)
    with ps.DualWriteStore(
        json=json_side,
        postgres=postgres_side,
        compare=0,
        redact=show_values,
        hook=events.append,
    ) as pair:
        pair.switch(Phase.PARALLEL)
        pair.collection(Person).put(JANE)
        version = pair.collection(Person).versioned(KEY)
        assert version is not None
        _damage(postgres_side, replace(JANE, phone="+20111", note="other"))
        report = pair.validate()
        findings = pair.divergences()

    (found,) = report.divergences
    assert "+20" not in str(found.differences)
    assert "'other'" in str(found.differences)
    assert "+20" not in str([finding.differences for finding in findings])
    (told,) = [e.message for e in events if e.name == "divergence"]
    assert told.startswith("people['0x5e5e'...] is different in the secondary")
    assert KEY not in "".join(event.message for event in events)


def _damage(store: ps.MemoryStore, record: Person) -> None:
    """Change a record by hand; its version stays."""
    body = SCHEMA["people"].codec.encode(record)
    version = store._state.tables["people"].version(record.key)
    row = ChangedRow("people", record.key, version or 1, body)
    with store._lock:
        store._state.install(LogRecord(rows=(row,)))


def test_the_hash_of_a_phone_number_is_personal_in_the_schema_of_pend() -> None:
    marked = {
        (spec.name, name)
        for spec in PEND.declared
        for name, field in spec.fields.items()
        if field.personal
    }

    for place in (
        ("users", "phone_hash"),
        ("users", "id"),
        ("user_profiles", "phone_number_masked"),
        ("kyc_applications", "phone_hash"),
        ("kyc_applications", "documents"),
        ("kyc_applications", "review_notes"),
        ("blockchain_events", "identity_hash"),
    ):
        assert place in marked
    with ps.MemoryStore(PEND) as store, pytest.raises(ps.InvalidRecord) as caught:
        store.collection(User).put(
            User(phone_hash=KEY + "JaneRoe", blockchain_address="")
        )
    assert "5e5e" not in str(caught.value)
    assert "JaneRoe" not in str(caught.value)


def test_a_quarantined_record_has_a_reason_without_its_personal_value(
    tmp_path: Path,
) -> None:
    @dataclass(frozen=True)
    class Contact:
        id: str
        phone: Annotated[str, ps.Limit(pattern=r"^\+"), ps.Personal()]

    layouts = [ps.records("contacts.json", Contact, key="id")]
    text = json.dumps([{"id": "a", "phone": "0123-Jane-Roe"}])
    (tmp_path / "contacts.json").write_text(text)
    with ps.JsonStore(ps.schema_of(layouts), tmp_path, layouts=layouts) as store:
        (record,) = store.collection("quarantine").find().items

    assert "Jane" not in record.reason
    assert "<str of length 13>" in record.reason
    assert b"0123-Jane-Roe" in record.raw  # it waits whole


# -- logs and tracebacks --------------------------------------------------------------------


@pytest.fixture
def library_log() -> Iterator[None]:
    """The log without what a command adds to it."""
    logger = logging.getLogger("pend_storage")
    before = list(logger.handlers)
    yield
    for handler in set(logger.handlers) - set(before):
        logger.removeHandler(handler)


def raised() -> LookupError:
    try:
        raise LookupError(HOSTILE)  # noqa: TRY301 - a traceback is wanted
    except LookupError as error:
        return error


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.usefixtures("library_log")
def test_a_line_of_the_log_is_escaped_with_its_traceback(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    show_logs("info", "json" if form == "json" else None, as_json=False)

    logging.getLogger("pend_storage").error("odd: %s", HOSTILE, exc_info=raised())

    text = capsys.readouterr().err
    assert "LookupError" in text
    assert harm_of(text) == []
    if form == "json":
        assert (
            HOSTILE[:8].encode("unicode_escape").decode() in json.loads(text)["message"]
        )


def test_an_unexpected_error_is_shown_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    show_tracebacks()
    error = raised()
    sys.excepthook(type(error), error, error.__traceback__)

    text = capsys.readouterr().err
    assert "report it" in text
    assert "LookupError" in text
    assert harm_of(text) == harm_of(traceback_text(error)) == []
