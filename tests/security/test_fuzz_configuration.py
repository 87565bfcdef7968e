"""Fuzzed configuration: whatever a file or a module holds, it ends in a sentence."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pend_storage.config import load_settings
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.factory import load_schema
from pend_storage.flags import FileFlag
from pend_storage.phases import Phase

VALID = """
[environments.development]
phase = "parallel"
schema = "pend_storage.pend"
auto_switch = true
[environments.development.json]
directory = "data"
checkpoint_interval = 5
unclaimed = "report"
files = { "wallet-db.json" = "../wallets.json" }
[environments.development.postgres]
url = "postgresql://pend:secret@db.example:6543/pend"
pool = 7
connect_timeout = 1.5
tls = { mode = "verify-full", root_certificate = "ca.pem" }
[environments.development.redis]
url_env = "CACHE"
key = "flags:pend"
[environments.development.dual_write]
secondary_timeout = 0
ignore = ["users.last_seen", "*.extra.note"]
retention_days = 30
"""
VALUES = [
    "true",
    "9" * 4_554,
    "-1",
    "1e999",
    "nan",
    '""',
    '"."',
    '"../x"',
    '"~nouser/x"',
    '"a\\u0000b"',
    '"\\ud800"',
    "'''" + "x" * 100_000 + "'''",
    "[]",
    "{}",
    "[" * 2_000 + "]" * 2_000,
    "1979-05-27T07:32:00Z",
    "9999-99-99",
    "0x" + "f" * 5_000,
    '"postgresql://[::1"',
    '"postgresql://u:p@h:99999999999/d"',
    '"redis://h:port"',
]


def mutated(chance: random.Random) -> bytes:
    """Return a mutation of the valid file: another value, a line less, or other bytes."""
    lines = VALID.splitlines()
    for _ in range(chance.randint(1, 3)):
        number = chance.randrange(len(lines))
        name, equals, _ = lines[number].partition(" = ")
        match chance.randrange(4):
            case 0 | 1 if equals:
                lines[number] = name + equals + chance.choice(VALUES)
            case 2:
                del lines[number]
            case _:
                lines.insert(number, lines[chance.randrange(len(lines))])
    content = bytearray("\n".join(lines).encode())
    if chance.random() < 0.3:
        for _ in range(chance.randint(1, 5)):
            content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def require_sentence(path: Path, content: bytes) -> None:
    """Use a file as the commands do; any error must be one of the library's, and short."""
    path.write_bytes(content)
    try:
        settings = load_settings(path, environ={})
        load_schema(settings)
        flag = FileFlag(path, settings.environment)
        flag.read()
        flag.write(Phase.PARALLEL, by="fuzz")
        assert load_settings(path, environ={}).phase is Phase.PARALLEL
    except PendStorageError as error:
        assert str(error).endswith((".", ")", "init", "?"))
        assert len(str(error)) < 4_000


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_file_is_used_or_refused_in_a_sentence(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(75):
        require_sentence(tmp_path / "pend.toml", mutated(chance))


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_mutated_files_are_used_or_refused_in_a_sentence(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(500):
        require_sentence(tmp_path / "pend.toml", mutated(chance))


@pytest.mark.parametrize("value", VALUES, ids=map(str, range(len(VALUES))))
@pytest.mark.parametrize("member", ["phase", "schema", "directory", "pool", "url"])
def test_a_member_with_any_value_is_used_or_refused_in_a_sentence(
    tmp_path: Path, member: str, value: str
) -> None:
    lines = [
        f"{member} = {value}" if line.startswith(f"{member} =") else line
        for line in VALID.splitlines()
    ]
    require_sentence(tmp_path / "pend.toml", "\n".join(lines).encode())


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (".", "is no name of a Python module"),
        ("../x", "is no name of a Python module"),
        ("a..b", "is no name of a Python module"),
        ("a b", "is no name of a Python module"),
        ("x" * 5_000, "there is no module"),
    ],
)
def test_what_is_no_module_is_refused_with_its_place(
    tmp_path: Path, name: str, part: str
) -> None:
    path = tmp_path / "pend.toml"
    path.write_text(f'[environments.development]\nschema = "{name}"\n')

    with pytest.raises(ConfigError, match=part) as caught:
        load_schema(load_settings(path, environ={}))

    assert "environments.development.schema" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("x = 1\nraise RuntimeError('not today')\n", "RuntimeError: not today"),
        ("x = 1\n1 / 0\n", "ZeroDivisionError"),
        ("x = 1\nimport sys; sys.exit(3)\n", "SystemExit: 3"),
        ("x = 1\nx = = 2\n", "SyntaxError"),
        ("x = 1\nx = '\x00'\n", "null bytes"),
        (
            "import re\nimport pend_storage as ps; ps.Schema([ps.collection('A', int)])\n",
            "lower-case identifier",
        ),
        ("import re\nre.compile('(')\n", "missing \\), unterminated"),
    ],
)
def test_a_module_that_raises_is_named_with_its_line(
    tmp_path: Path, source: str, part: str
) -> None:
    name = f"records_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    path = tmp_path / "pend.toml"
    path.write_text(f'[environments.development]\nschema = "{name}"\n')

    with pytest.raises(ConfigError, match=part) as caught:
        load_schema(load_settings(path, environ={}))

    if "ps." not in source and "\x00" not in source:
        assert f"{name}.py, line 2" in str(caught.value)


def test_an_interrupt_while_a_module_is_imported_stays_one(tmp_path: Path) -> None:
    (tmp_path / "interrupted_records.py").write_text("raise KeyboardInterrupt\n")
    path = tmp_path / "pend.toml"
    path.write_text('[environments.development]\nschema = "interrupted_records"\n')

    with pytest.raises(KeyboardInterrupt):
        load_schema(load_settings(path, environ={}))


def test_a_phase_of_another_type_is_replaced_by_a_word(tmp_path: Path) -> None:
    path = tmp_path / "pend.toml"
    path.write_text("[environments.development]\nphase = true # why\n")

    FileFlag(path, "development").write(Phase.PARALLEL, by="ann")

    assert path.read_text() == '[environments.development]\nphase = "parallel" # why\n'
