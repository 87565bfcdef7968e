"""The hostile twin: the owner of a directory plants things in the way of root's process.

A recorder finds every name that a flow opens or creates. At each of them a link, a second
name of a secret, a pipe, a directory or a file of a third user is planted. Whatever it is,
nothing outside of the directory is changed, nothing secret gets into it, and no process waits.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import math
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from typing_extensions import override

from pend_storage import crashpoints
from pend_storage.stores.json import OWN_DIRECTORY
from pend_storage.testing.fork_server import fork_server
from tests.security.acting import OTHER, THIRD, give, open_place
from tests.security.twin import FLOWS

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be led astray by another user"
)

_SECRET: Final = b"R00T-0NLY-c0ntent-of-a-file-of-root"
_KINDS: Final = (
    *("link-to-secret", "link-to-missing", "hard-link", "pipe"),
    *("directory", "link-to-directory", "foreign-file"),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a process has reported."""

    names: frozenset[str]
    missed: tuple[str, ...]
    error: str | None


class _Victim:
    """Process that runs flows, each in a child of its own."""

    def __init__(self) -> None:
        ours, theirs = os.pipe(), os.pipe()
        self._process = fork_server().start(
            "tests.security.twin:serve",
            descriptors=[ours[0], theirs[1], 2],
            environment={"PATH": "/usr/bin:/bin"},
            directory="/",
            path=[str(Path(__file__).parents[2])],
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._in, self._out = os.fdopen(ours[1], "w"), os.fdopen(theirs[0])

    def ask(self, wish: dict[str, str]) -> dict[str, Any]:
        self._in.write(json.dumps(wish) + "\n")
        self._in.flush()
        found: dict[str, Any] = json.loads(self._out.readline())
        return found

    def end(self) -> None:
        self._in.close()
        self._process.wait(10)
        self._out.close()


_victim = functools.cache(_Victim)


class Ground:
    """A hostile directory, and root's files beside it."""

    def __init__(self, template: Path | None = None) -> None:
        self.base = open_place()
        self.place = self.base / "place"
        self.outside = self.base / "outside"
        if template is None:
            self._build()
        else:
            subprocess.run(
                ["/bin/cp", "-a", f"{template}/.", str(self.base)], check=True
            )
        self.secret = self.outside / "secret"

    def _build(self) -> None:
        self.outside.mkdir(mode=0o755)
        (self.outside / "folder").mkdir()
        (self.outside / "secret").write_bytes(_SECRET)
        (self.outside / "secret").chmod(0o600)
        data = self.place / "data"
        (data / "explorer-data").mkdir(parents=True)
        (data / "wallet-db.json").write_text("{}")
        (data / "explorer-data" / "identity-map.json").write_text('{"x": "y"}')
        (self.place / "pend.toml").write_text(
            '[environments.development]\nphase = "json-only"\n'
            '[environments.development.json]\ndirectory = "data"\n'
        )
        give(self.place, OTHER)

    def run(self, flow: str, actor: str = "root", point: str = "-") -> Outcome:
        """Run a flow; the process must end by itself, or at the crash point."""
        wish = {"flow": flow, "where": str(self.place), "actor": actor, "point": point}
        found = _victim().ask(wish)
        killed = found.get("error") == "killed"
        assert found["code"] == (-signal.SIGKILL if killed else 0), f"{wish}: {found}"
        return Outcome(
            frozenset(found["names"]), tuple(found["missed"]), found["error"]
        )

    def plant(self, name: str, kind: str) -> None:
        """Put something in the place of a name, as the owner of the directory can."""
        path = self.place / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            path.rename(path.with_name(f"{path.name}-aside"))
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = OTHER
        match kind:
            case "link-to-secret":
                path.symlink_to(self.secret)
            case "link-to-missing":
                path.symlink_to(self.outside / "missing")
            case "link-to-directory":
                path.symlink_to(self.outside / "folder")
            case "hard-link":
                path.hardlink_to(self.secret)
                return  # its owner is root
            case "pipe":
                os.mkfifo(path)
            case "directory":
                path.mkdir()
            case "foreign-file":
                path.write_bytes(b"{}")
                owner = THIRD
            case _:
                raise AssertionError(kind)
        os.chown(path, owner, owner, follow_symlinks=False)

    def remains(self) -> dict[str, Any]:
        """Everything about root's files that must not change."""
        found: dict[str, Any] = {}
        for path in sorted([self.outside, *self.outside.rglob("*")]):
            status = path.lstat()
            found[str(path)] = (
                *(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns),
                path.read_bytes() if path.is_file() else None,
            )
        return found

    def leaks(self) -> list[str]:
        """Files of the directory with something of the secret, other than its own names."""
        inode = self.secret.stat().st_ino
        spelt = (_SECRET[:12], base64.b64encode(_SECRET)[:15])
        return [
            str(path)
            for path in self.place.rglob("*")
            if stat.S_ISREG(path.lstat().st_mode)
            and path.lstat().st_ino != inode
            and any(word in path.read_bytes() for word in spelt)
        ]

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.base)


@functools.cache
def _template(*, opened: bool) -> Path:
    """A ground to copy, with a store that its owner has opened, or with files alone."""
    ground = Ground()
    if opened:
        assert ground.run("use", "owner").error is None
        # What a process leaves that was killed while it put a file into its place.
        views = ground.place / "data" / OWN_DIRECTORY / "views"
        left = views / "explorer-data%2Fidentity-map.json.old"
        left.write_text('{"x": "an edit of an old program"}')
        give(left, OTHER)
    return ground.base


@pytest.fixture(scope="module", autouse=True)
def _remove_templates() -> Iterator[None]:
    yield
    for opened in (False, True):
        shutil.rmtree(_template(opened=opened))
    _template.cache_clear()
    _victim().end()
    _victim.cache_clear()


@functools.cache
def names(flow: str, *, opened: bool) -> tuple[str, ...]:
    """All names that a flow opens, as the owner and as root, at which one can plant."""
    found: set[str] = set()
    for actor in ("owner", "root"):
        ground = Ground(_template(opened=opened))
        try:
            outcome = ground.run(flow, actor)
        finally:
            ground.remove()
        assert outcome.error is None, f"{flow} as {actor}: {outcome.error}"
        assert outcome.missed == (), "names that the recorder could not place"
        found |= outcome.names
    return tuple(sorted(found))


@dataclasses.dataclass(frozen=True)
class Attack:
    """One thing planted at one name, and who comes by."""

    flow: str
    opened: bool
    name: str
    kind: str
    actor: str
    point: str = "-"
    """Crash point at which the process before was killed."""

    @override
    def __str__(self) -> str:
        before = "opened" if self.opened else "fresh"
        return f"{self.flow}-{before}-{self.name}-{self.kind}-{self.actor}-{self.point}"


def every_attack() -> Iterator[Attack]:
    """Yield all combinations."""
    for flow in FLOWS:
        for opened in (True, False):
            for name in names(flow, opened=opened):
                for kind in _KINDS:
                    for actor in ("root", "owner"):
                        yield Attack(flow, opened, name, kind, actor)


def sample(attacks: list[Attack], count: int) -> list[Attack]:
    """Take about so many, in equal steps in which kinds and actors take turns."""
    step = max(1, len(attacks) // count)
    while math.gcd(step, 2 * len(_KINDS)) > 1:
        step += 1
    return attacks[::step]


def verify(attack: Attack) -> None:
    """Carry out an attack, and verify that it has achieved nothing."""
    ground = Ground(_template(opened=attack.opened))
    try:
        if attack.point != "-":
            ground.run(attack.flow, "root", attack.point)
        ground.plant(attack.name, attack.kind)
        before = ground.remains()
        outcome = ground.run(attack.flow, attack.actor)
        assert outcome.error in {None, "refused"}, str(attack)
        assert ground.remains() == before, str(attack)
        assert ground.leaks() == [], str(attack)
        assert outcome.missed == (), str(attack)
        _require_known(attack, outcome)
    finally:
        ground.remove()


def _require_known(attack: Attack, outcome: Outcome) -> None:
    """Require that nothing was opened at which nothing was ever planted."""
    known = {n for f in FLOWS for o in (True, False) for n in names(f, opened=o)}
    aside = {name for name in outcome.names if "-aside" in name}
    new = outcome.names - known - aside
    assert new == set(), f"{attack}: never planted: {sorted(new)}"


POINTED: Final = [
    Attack(flow, opened=True, name=name, kind=kind, actor="root")
    for flow, names_ in {
        "use": ("data", "data/wallet-db.json", "data/explorer-data"),
        "back_up": ("data", "data/wallet-db.json", "pend.toml"),
        "set_phase": ("pend.toml",),
        "configure": ("pend.toml",),
        "report": ("data/wallet-db.json",),
    }.items()
    for name in names_
    for kind in ("link-to-secret", "link-to-directory", "hard-link")
]
"""The ways in which files of an application lead elsewhere."""


@pytest.mark.parametrize("attack", POINTED, ids=str)
def test_what_belongs_to_the_application_leads_nowhere_else(attack: Attack) -> None:
    verify(attack)


@pytest.mark.parametrize("flow", FLOWS)
def test_nothing_outside_changes_whatever_is_planted(flow: str) -> None:
    for attack in sample([a for a in every_attack() if a.flow == flow], 14):
        verify(attack)


@pytest.mark.deep
def test_nothing_outside_changes_in_any_combination() -> None:
    for attack in every_attack():
        verify(attack)


def crash_attacks() -> Iterator[Attack]:
    """Yield what can be planted after a kill at each crash point."""
    for point in crashpoints.points("json."):
        for opened in (True, False):
            for name in names("use", opened=opened):
                for kind in _KINDS:
                    yield Attack("use", opened, name, kind, "root", point)


def test_neither_after_a_process_was_killed() -> None:
    for attack in sample([*crash_attacks()], 20):
        verify(attack)


@pytest.mark.deep
def test_neither_after_a_process_was_killed_at_any_point() -> None:
    for attack in crash_attacks():
        verify(attack)
