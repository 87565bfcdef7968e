"""Table ``backup`` of the configuration: defaults, durations, refusals, and no secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pend_storage.config import KeepSettings, load_settings, parse_duration
from pend_storage.errors import ConfigError

HEAD = "[environments.development.backup]\n"
FULL = (
    HEAD
    + """
repository = "s3://bucket/pend"
schedule = "30 3 * * *"
keep = { last = 3, hourly = 24, daily = 7, weekly = 4, monthly = 6, yearly = 2, within = "2d" }
log_within = "14d"
encrypt_to = ["age1qqqq"]
identity_file = "secret/age.txt"
max_age = "36h"
max_hold = "1d 12h"
rto = "1h"
rpo = "15min"
"""
)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        path = tmp_path / "pend.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_every_member_is_read(write: Write) -> None:
    path = write(FULL)

    found = load_settings(path, environ={}).require_backup()

    assert found.repository == "s3://bucket/pend"
    assert found.schedule == "30 3 * * *"
    assert found.keep == KeepSettings(
        last=3,
        hourly=24,
        daily=7,
        weekly=4,
        monthly=6,
        yearly=2,
        within=timedelta(days=2),
    )
    assert found.log_within == timedelta(days=14)
    assert found.encrypt_to == ("age1qqqq",)
    assert found.identity_file == path.parent / "secret" / "age.txt"
    assert found.max_age == timedelta(hours=36)
    assert found.max_hold == timedelta(hours=36)
    assert (found.rto, found.rpo) == (timedelta(hours=1), timedelta(minutes=15))


def test_the_defaults_are_those_of_the_documentation(write: Write) -> None:
    found = load_settings(
        write(HEAD + 'repository = "/srv/backups"'), environ={}
    ).require_backup()

    assert found.schedule == "daily"
    assert found.keep == KeepSettings(last=2, daily=7, weekly=5, monthly=12)
    assert found.log_within == timedelta(days=7)
    assert found.max_age == timedelta(hours=26)
    assert found.max_hold == timedelta(days=3)
    assert found.encrypt_to == ()
    assert found.rto is None
    assert found.rpo is None


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("backups", "{folder}/backups"),
        ("/srv/backups", "/srv/backups"),
        ("file:///srv/back%20ups", "/srv/back ups"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_a_folder_becomes_an_absolute_path(
    write: Write, written: str, address: str
) -> None:
    path = write(HEAD + f'repository = "{written}"')

    found = load_settings(path, environ={}).require_backup()

    assert found.repository == address.format(folder=path.parent)


def test_without_the_table_the_lines_to_write_are_named(write: Write) -> None:
    settings = load_settings(write("[environments.development]"), environ={})

    with pytest.raises(ConfigError, match=re.escape("development.backup]")) as caught:
        settings.require_backup()

    assert "repository = " in str(caught.value)


def test_the_variables_win_over_the_file(write: Write, tmp_path: Path) -> None:
    found = load_settings(
        write(FULL),
        environ={
            "PEND_BACKUP_REPOSITORY": "/elsewhere",
            "PEND_BACKUP_IDENTITY": "AGE-SECRET-KEY-1HIDDEN",
        },
    ).require_backup()

    assert found.repository == "/elsewhere"
    assert found.identity == "AGE-SECRET-KEY-1HIDDEN"
    assert "HIDDEN" not in repr(found)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('schedule = "daily"', "repository is missing"),
        ('repository = "ftp://x/y"', "no known kind"),
        ('repository = "s3://key:secret@bucket/x"', "no plain address"),
        ('repository = "s3:///x"', "name of the bucket"),
        ('repository = "file://host/x"', "three slashes"),
        ('repository = "x"\nmax_age = "36"', "backup.max_age: '36' is no duration"),
        ('repository = "x"\nmax_age = "0h"', "is no duration"),
        ('repository = "x"\nkeep = {}', "keeps no backup"),
        ('repository = "x"\nkeep = { within = "x" }', "backup.keep.within"),
        ('repository = "x"\nkeep = { dayly = 1 }', "did you mean 'daily'"),
        ('repository = "x"\nkeep = { daily = -1 }', "backup.keep.daily"),
        ('repository = "x"\nschedule = "sometimes"', "is no schedule"),
        ('repository = "x"\nencrypt_to = ["AGE-SECRET-KEY-1X"]', "entry 1"),
        ('repositry = "x"', "did you mean 'repository'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    write: Write, lines: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_settings(write(HEAD + lines), environ={})

    assert "key:secret" not in str(caught.value)
    assert "KEY-1X" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15min", 900), ("15m", 900), ("1.5h", 5_400), ("1d12h", 129_600)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert parse_duration(text, place="here").total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "1y", "1 h", "99999999d", "1h?"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no duration"):
        parse_duration(text, place="here")
