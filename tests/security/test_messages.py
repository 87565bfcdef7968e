"""Messages of errors and events: what they cite is cut and escaped, whatever it is."""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pend_storage as ps
from pend_storage.errors import PendStorageError
from pend_storage.events import Event
from pend_storage.phases import parse_phase
from tests.security.texts import HOSTILE, harm_of

PACKAGE: Final = Path(str(ps.__file__)).parent
HUGE: Final = HOSTILE * 30_000  # more than a million characters
MOST: Final = 1_000

# -- what the source says -------------------------------------------------------------------

DECLARED: Final = frozenset(
    """
    _SAMPLE_SCHEMA _UNLIMITED before.phase before.value column.name condition
    facts.isolation found[1] given hint known name package phase.value self.environment
    self.key self.shape settings.environment spec.name target user_type.__qualname__ value
    wanted wanted.phase.value wanted.pooler batch.token before.phase shown
    text.encode(errors='backslashreplace') application cause.constraint file.shape
    wanted.name
    """.split()  # noqa: SIM905 - one list reads better
)
"""Expressions that a message may cite whole: names that programs declare, enumerations, and
texts of a known size. The message as a whole is bounded and escaped in any case."""
FOREIGN: Final = frozenset({"cell", "content", "line", "raw", "record", "text"})
"""Names of variables that hold texts of files, records and servers."""


def cited(function: Callable[[ast.FormattedValue], bool]) -> list[str]:
    """List what messages cite, of all expressions that raise an error or make an event."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in {"testing", "sample_data", "demo"}:
            continue
        for message in messages(ast.parse(path.read_text(encoding="utf-8"))):
            found += [
                f"{path.relative_to(PACKAGE)}:{value.lineno}: {ast.unparse(value.value)}"
                for value in ast.walk(message)
                if isinstance(value, ast.FormattedValue) and function(value)
            ]
    return found


def messages(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield node.exc
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Event":
            yield node


def is_unbounded(value: ast.FormattedValue) -> bool:
    return value.conversion == ord("r") and ast.unparse(value.value) not in DECLARED


def is_foreign(value: ast.FormattedValue) -> bool:
    name = value.value.id if isinstance(value.value, ast.Name) else ""
    return name in FOREIGN and value.format_spec is None and value.conversion == -1


def test_a_message_cites_no_unbounded_representation() -> None:
    assert cited(is_unbounded) == []


def test_a_message_cites_no_foreign_text_as_it_is() -> None:
    assert cited(is_foreign) == []


def test_the_check_of_the_source_bites() -> None:
    tree = ast.parse(
        "raise ValueError(f'{member!r} {spec.name!r} {text} {shown(text)}')"
    )
    values = [
        value
        for message in messages(tree)
        for value in ast.walk(message)
        if isinstance(value, ast.FormattedValue)
    ]

    assert [ast.unparse(v.value) for v in values if is_unbounded(v)] == ["member"]
    assert [ast.unparse(v.value) for v in values if is_foreign(v)] == ["text"]


# -- what programs get ----------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Thing:
    id: str
    slug: Annotated[str, ps.Limit(max_length=20, pattern="^[a-z]+$")] = "a"
    size: Annotated[int, ps.Limit(ge=0, le=9)] = 0
    price: Annotated[Decimal, ps.Limit(digits=5, places=2)] = Decimal(0)
    colour: Colour = Colour.RED
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    data: dict[str, ps.JSON] = None  # type: ignore[assignment]
    numbers: list[int] = None  # type: ignore[assignment]
    phone: Annotated[str, ps.Limit(pattern="^[+]"), ps.Personal()] = "+2"
    owner: str | None = None


SCHEMA: Final = ps.Schema(
    [ps.collection("things", Thing, unique=["slug"], references={"owner": "things"})]
)
BACKENDS: Final = ("memory", "json", "postgres")


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ps.Store]:
    """A store of each kind."""
    if request.param == "memory":
        yield ps.MemoryStore(SCHEMA)
        return
    made: ps.Store
    if request.param == "json":
        made = ps.JsonStore(SCHEMA, tmp_path)
    else:
        lend = request.getfixturevalue("new_migrated_database")
        made = ps.PostgresStore(SCHEMA, lend(SCHEMA))
    with made:
        yield made


def fault_of(call: Callable[[], object]) -> str:
    """The message of the error of a call."""
    with pytest.raises(PendStorageError) as caught:
        call()
    return str(caught.value)


def things(store: ps.Store) -> ps.Collection[Thing]:
    return store.collection(Thing)


def thing(**members: Any) -> Thing:
    return Thing(**{"id": "1", "data": {}, "numbers": []} | members)


CALLS: Final[dict[str, Callable[[ps.Collection[Thing]], object]]] = {
    "pattern": lambda c: c.put(thing(phone=HUGE)),
    "length": lambda c: c.put(thing(slug=HUGE)),
    "key": lambda c: c.put(thing(id=HUGE)),
    "reference": lambda c: c.put(thing(owner=HUGE[:600])),
    "number": lambda c: c.put(thing(size=10**3_900)),
    "digits": lambda c: c.put(thing(price=Decimal("1" * 9_000))),
    "choice": lambda c: c.put(thing(colour=HUGE)),
    "time": lambda c: c.put(thing(at=HUGE)),
    "member": lambda c: c.put(thing(data={HUGE.encode(): 1})),
    "list": lambda c: c.put(thing(numbers=[HUGE])),
    "type": lambda c: c.put(HUGE),  # type: ignore[arg-type]
    "conflict": lambda c: c.put(thing(id=HOSTILE * 5), if_version=7),
    "field": lambda c: c.find(ps.field(HUGE) == 1),
    "path": lambda c: c.find(ps.field("id", HUGE) == 1),
    "operand": lambda c: c.find(ps.field("size") == HUGE),
    "condition": lambda c: c.find(HUGE),  # type: ignore[arg-type]
    "order": lambda c: c.find(order_by=[HUGE]),
    "one order": lambda c: c.find(order_by=HUGE),
    "limit": lambda c: c.find(limit=HUGE),  # type: ignore[arg-type]
    "cursor": lambda c: c.find(after=HUGE),
    "unique": lambda c: c.get_by(HUGE, 1),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=[*CALLS])
def test_a_refusal_is_one_short_line_made_at_once(
    store: ps.Store, call: Callable[[ps.Collection[Thing]], object]
) -> None:
    began = time.process_time()

    text = fault_of(lambda: call(things(store)))

    assert len(text) < MOST
    assert harm_of(text) == []
    assert time.process_time() - began < 5


values = st.recursive(
    st.text(st.characters() | st.sampled_from([*HOSTILE])).map(lambda t: t + HOSTILE)
    | st.integers()
    | st.binary()
    | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from([*Thing.__dataclass_fields__]), values)
def test_no_value_of_a_record_gets_raw_into_a_message(name: str, value: object) -> None:
    with ps.MemoryStore(SCHEMA) as memory:
        for call in (
            lambda: things(memory).put(thing(**{name: value})),
            lambda: things(memory).find(ps.field(name) == value),
            lambda: things(memory).find(order_by=[value]),  # type: ignore[list-item]
        ):
            try:
                call()
            except PendStorageError as error:
                assert len(str(error)) < MOST
                assert harm_of(str(error)) == []
            except (TypeError, AttributeError):
                pass  # an order that is no text


def test_a_personal_value_is_in_no_message(store: ps.Store) -> None:
    for call in (
        lambda: things(store).put(thing(phone="Jane Roe")),
        lambda: things(store).find(ps.field("phone") > b"Jane Roe"),
    ):
        text = fault_of(call)
        assert "Jane" not in text
        assert "8" in text or "bytes" in text


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE * 300])
def test_a_phase_and_a_file_of_settings_are_cited_shortly(
    tmp_path: Path, text: str
) -> None:
    for config in (
        f"[environments.development]\nphase = {json.dumps(text)}\n",
        f"[environments.development]\n{json.dumps(text)} = 1\n",
        f"{json.dumps(text)} = 1\n",
        f"[environments.{json.dumps(text)}]\n",
        f"[environments.development.json]\ndirectory = {json.dumps(text)}\n",
        f"[environments.development]\nschema = {json.dumps(text)}\n",
    ):
        (tmp_path / "pend.toml").write_text(config)
        message = fault_of(lambda: ps.open_store(str(tmp_path / "pend.toml")))
        assert len(message) < 2 * MOST
        assert harm_of(message) == []
    message = fault_of(lambda: parse_phase(text, place="here"))
    assert len(message) < MOST
    assert harm_of(message) == []


def test_an_edited_file_is_cited_escaped_in_events(tmp_path: Path) -> None:
    seen: list[Event] = []
    layouts = ps.documents("notes.json")
    path = tmp_path / "notes.json"
    path.write_text(json.dumps({"a": 1, HOSTILE: 2}))
    schema = ps.schema_of(layouts)
    with ps.JsonStore(schema, tmp_path, layouts=layouts, hook=seen.append) as opened:
        path.write_text('{"a": 1, ' + HOSTILE)
        opened.refresh() if hasattr(opened, "refresh") else None
        opened.legacy("notes.json").get("a")
    with ps.JsonStore(schema, tmp_path, layouts=layouts, hook=seen.append):
        pass

    assert [harm_of(event.message) for event in seen] == [[]] * len(seen)


# -- personal fields ------------------------------------------------------------------------


def test_a_mark_changes_neither_the_schema_nor_what_is_stored() -> None:
    @dataclass(frozen=True)
    class Plain:
        id: str
        phone: str | None = None

    @dataclass(frozen=True)
    class Marked:
        id: Annotated[str, ps.Personal()]
        phone: Annotated[str, ps.Personal()] | None = None

    plain, marked = (ps.Schema([ps.collection("people", t)]) for t in (Plain, Marked))

    assert plain.fingerprint() == marked.fingerprint()
    assert [f.personal for f in plain["people"].fields.values()] == [False, False]
    assert [f.personal for f in marked["people"].fields.values()] == [True, True]
    put = [s.put("people", t("1", "+2")) for s, t in ((plain, Plain), (marked, Marked))]
    assert put[0].body == put[1].body


def test_a_mark_of_a_declared_file_counts() -> None:
    @dataclass
    class Person:
        name: str
        phone: Annotated[str, ps.Personal()] = ""

    layouts = ps.records("people.json", Person, key=ps.MEMBER_NAME)
    (spec,) = ps.schema_of([layouts]).declared

    assert spec.fields["phone"].personal
    assert not spec.fields["name"].personal
