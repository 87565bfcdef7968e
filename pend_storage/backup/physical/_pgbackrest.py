"""Adapter for pgBackRest: its backups are listed, made, verified and restored by its program.

Its ``verify`` ends with 0 although it has found damage, and a target that was not reached
ends with 0 as well: the server stops seconds later. So both are read from what it writes,
and the server is started and watched here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pend_storage._shown import shown
from pend_storage.backup.physical._targets import RecoveryTarget
from pend_storage.backup.physical._tools import Finished, last_words
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable

__all__ = ["PgBackRest", "PgBackRestBackup"]

_PROGRAM: Final = "pgbackrest"
_TIMEOUT: Final = 24 * 3600.0
_STANZA: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
_PASSED_ON: Final = ("PATH", "HOME", "TZ")
_DAMAGE: Final = re.compile(
    r"status: error|ERROR:|missing: [1-9]|checksum invalid: [1-9]|size invalid: [1-9]"
    r"|other: [1-9]"
)
_TOO_EARLY: Final = 75
"""Exit code where no backup ended before the target."""
_KINDS: Final = frozenset({"full", "diff", "incr"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PgBackRestBackup:
    """Backup in a repository of pgBackRest."""

    label: str
    """Its name, such as ``20260131-120000F``."""
    kind: str
    """``full``, ``diff`` or ``incr``."""
    started_at: datetime
    finished_at: datetime
    """Targets must be later."""
    size: int
    """Bytes of the server."""
    stored: int
    """Bytes in the repository."""
    start: str
    """Position of the write-ahead log."""
    end: str
    parents: tuple[str, ...]
    """Backups that it needs."""
    has_error: bool
    """It found pages with wrong checksums."""


@dataclass(frozen=True, slots=True)
class PgBackRest:
    """Program of pgBackRest, for one stanza."""

    program: Path
    stanza: str
    config: Path | None = None
    """Its configuration; None: where it looks itself."""

    @classmethod
    def find(cls, stanza: str, *, config: Path | None = None) -> PgBackRest:
        """Find the program in the PATH.

        Raises:
            ConfigError: it is not installed, or the stanza is no name.
        """
        if not _STANZA.fullmatch(stanza):
            raise ConfigError(f"{shown(stanza)} is no name of a stanza of pgBackRest.")
        found = shutil.which(_PROGRAM)
        if found is None:
            raise ConfigError(
                "pgbackrest is not installed. Install it: apt-get install pgbackrest; or "
                "make physical backups without it: `backup create --kind physical`."
            )
        return cls(Path(found), stanza, config)

    def backups(self) -> list[PgBackRestBackup]:
        """List the backups of the stanza, oldest first.

        Raises:
            ConfigError: there is no such stanza, or it is not usable.
            CorruptFile: what the program wrote is not understood.
            StoreUnavailable: it failed.
        """
        done = self._run("info", "--output=json")
        if done.code != 0:
            raise self._failure("info", done)
        try:
            stanzas: list[dict[str, Any]] = json.loads(done.output)
            found = next((s for s in stanzas if s["name"] == self.stanza), None)
            if found is None or found["status"]["code"] not in {0, 2}:
                message = "" if found is None else f": {found['status']['message']}"
                raise ConfigError(
                    f"pgBackRest cannot use the stanza {shown(self.stanza)}"
                    f"{shown(message) if message else ''}. See: pgbackrest "
                    f"--stanza={self.stanza} check"
                )
            backups = [_backup(each) for each in found["backup"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CorruptFile(
                f"what it writes is not understood: {type(error).__name__}",
                path="pgbackrest info",
            ) from error
        return sorted(backups, key=lambda each: each.finished_at)

    def back_up(self, kind: str = "incr") -> PgBackRestBackup:
        """Make a backup; return it.

        Args:
            kind: ``full``, ``diff`` or ``incr``.

        Raises:
            ConfigError: there is no such kind, or it is not listed afterwards.
            StoreUnavailable: it failed.
        """
        if kind not in _KINDS:
            raise ConfigError(f"{shown(kind)} is none of full, diff, incr.")
        before = {each.label for each in self.backups()}
        done = self._run("backup", f"--type={kind}")
        if done.code != 0:
            raise self._failure("backup", done)
        made = [each for each in self.backups() if each.label not in before]
        if not made:
            raise StoreUnavailable(
                f"it ended with 0, and lists no new backup: {done.last_words}",
                store="pgbackrest backup",
            )
        return made[-1]

    def verify(self) -> list[str]:
        """Verify everything of the stanza; return the lines that report damage.

        Raises:
            StoreUnavailable: it could not verify.
        """
        done = self._run("verify", "--output=text", "--verbose")
        if "option" in done.output and "not valid" in done.output:
            done = self._run("verify")  # 2.45 knows neither option
        found = list(_damage(done.output))
        if done.code != 0 and not found:
            raise self._failure("verify", done)
        return found

    def fetch_command(self, data: Path) -> str:
        """Return the ``restore_command`` of a restored server.

        Args:
            data: its directory. The configuration names the live server's, and the
                program would look for the segment there.
        """
        config = [] if self.config is None else [f"--config={self.config}"]
        words = [str(self.program), f"--stanza={self.stanza}", *config]
        words += [f"--pg1-path={data}", "archive-get"]
        return " ".join(shlex.quote(word).replace("%", "%%") for word in words) + (
            ' %f "%p"'
        )

    def restore(
        self, into: Path, target: RecoveryTarget, *, backup: str | None = None
    ) -> None:
        """Restore files into a new directory; the server is not started.

        Args:
            into: does not exist, or is empty.
            target: of the recovery.
            backup: label of the backup to begin with; it must end before the target. None:
                by the time, or the newest one: it does not know when a commit was made.

        Raises:
            ConfigError: no backup ended before the target.
            StoreUnavailable: it failed.
        """
        done = self._run(
            "restore",
            f"--pg1-path={into}",
            "--archive-mode=off",
            *([] if backup is None else [f"--set={backup}"]),
            *_target_options(target),
        )
        if done.code == _TOO_EARLY:
            raise ConfigError(
                f"pgBackRest has no backup that ended before {target.text}: "
                f"{done.last_words}. Choose a later target."
            )
        if done.code != 0:
            raise self._failure("restore", done)

    def _run(self, command: str, *options: str) -> Finished:
        config = [] if self.config is None else [f"--config={self.config}"]
        environment = {n: os.environ[n] for n in _PASSED_ON if n in os.environ}
        arguments = [f"--stanza={self.stanza}", *config, *options, command]
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                [str(self.program), *arguments],
                cwd="/",
                env={**environment, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if command == "info" else subprocess.STDOUT,
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise StoreUnavailable(
                f"it did not end within {_TIMEOUT:g} s", store=f"pgbackrest {command}"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{self.program} cannot be run: {error.strerror}. Repair its installation."
            ) from error
        output = done.stdout.decode(errors="replace")
        if done.stderr and done.returncode != 0:
            output += done.stderr.decode(errors="replace")
        return Finished(done.returncode, output)

    def _failure(self, command: str, done: Finished) -> StoreUnavailable:
        return StoreUnavailable(
            f"it failed with {done.code}: {last_words(done.output)}",
            store=f"pgbackrest {command}",
        )


def _backup(given: Mapping[str, Any]) -> PgBackRestBackup:
    info = given["info"]
    return PgBackRestBackup(
        label=str(given["label"]),
        kind=str(given["type"]),
        started_at=datetime.fromtimestamp(given["timestamp"]["start"], UTC),
        finished_at=datetime.fromtimestamp(given["timestamp"]["stop"], UTC),
        size=int(info["size"]),
        stored=int(info["repository"].get("delta", 0)),
        start=str(given["lsn"]["start"]),
        end=str(given["lsn"]["stop"]),
        parents=tuple(given.get("reference") or ()),
        has_error=bool(given.get("error")),
    )


def _damage(output: str) -> Iterator[str]:
    for line in output.splitlines():
        if _DAMAGE.search(line):
            yield shown(line.strip())


def _target_options(target: RecoveryTarget) -> Sequence[str]:
    """Return the options of a target; the end of the log has none."""
    options = []
    for name, value in target.settings:
        if name == "recovery_target":
            return ["--type=immediate", "--target-action=promote"]
        if name == "recovery_target_inclusive":
            options += ["--target-exclusive"] if value == "off" else []
        else:
            kind = name.removeprefix("recovery_target_")
            options += [f"--type={kind}", f"--target={value}"]
    return [*options, "--target-action=promote"] if options else []
