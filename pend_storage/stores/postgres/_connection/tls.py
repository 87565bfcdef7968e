"""TLS defaults: a server on another machine is verified unless the settings differ.

libpq's own default, ``prefer``, neither verifies the server nor insists on encryption. Here
a server is taken for local only by its address: a Unix socket, or the loopback interface.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from psycopg import pq

__all__ = ["is_local", "tls_defaults", "weakness_of"]

VERIFIED: Final = "verify-full"
_SYSTEM_STORE: Final = 160_000
"""First version of libpq that can use the certificate authorities of the system."""
_WEAK: Final = {
    "disable": "it is not encrypted",
    "allow": "it is encrypted only if the server insists, and the server is not verified",
    "prefer": "it falls back to plain text, and the server is not verified",
    "require": "it is encrypted, and the server is not verified",
    "verify-ca": "the authority of the certificate is verified, and the host's name is not",
}


def is_local(settings: Mapping[str, Any]) -> bool:
    """Return whether the settings lead to this machine only.

    A host may also come from the environment variables of libpq. With a service, whose file
    is libpq's to read, the host is unknown; it counts as remote unless it is given as well.

    Args:
        settings: as libpq names them.
    """
    hosts = list(_hosts(settings))
    if not hosts:
        return not _given(settings, "service")
    return all(map(_is_local_host, hosts))


def tls_defaults(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the TLS settings to add to those that are given.

    A server on another machine must prove its name (``verify-full``), unless the settings or
    the variables of libpq choose a mode. Where no file of authorities is named, those of the
    system are trusted; a libpq before version 16 cannot, and reads its own default file.
    With a service, the mode is left to the service's file.
    """
    mode = _given(settings, "sslmode", default="prefer")
    if mode is None and (is_local(settings) or _given(settings, "service")):
        return {}
    added = {} if mode else {"sslmode": VERIFIED}
    has_root = _given(settings, "sslrootcert") or _default_root().exists()
    if mode in {None, VERIFIED} and not has_root and pq.version() >= _SYSTEM_STORE:
        added["sslrootcert"] = "system"
    return added


def weakness_of(settings: Mapping[str, Any]) -> str | None:
    """Return in what a connection is weaker than a verified one; None if local or verified.

    Args:
        settings: with the defaults added.
    """
    if is_local(settings):
        return None
    mode = _given(settings, "sslmode", default="prefer")
    if mode is None and _given(settings, "service"):
        return None  # the service's file decides
    mode = mode or "prefer"
    return f"sslmode is {mode}: {_WEAK[mode]}" if mode in _WEAK else None


def _hosts(settings: Mapping[str, Any]) -> Iterator[str]:
    """Hosts and addresses. Beside an address, the name is the one that is verified."""
    for name in ("hostaddr", "host"):
        yield from filter(None, (_given(settings, name) or "").split(","))


def _is_local_host(host: str) -> bool:
    if host[:1] in {"/", "@"}:
        return True
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _given(
    settings: Mapping[str, Any], name: str, *, default: str | None = None
) -> str | None:
    """A setting, or the value of libpq's environment variable unless it is the default."""
    if settings.get(name):
        return str(settings[name])
    for option in pq.Conninfo.get_defaults():
        if option.keyword.decode() == name and option.val:
            value = option.val.decode(errors="replace")
            return None if value == default else value
    return None


def _default_root() -> Path:
    """File of the trusted authorities that libpq uses by itself."""
    try:
        return Path.home() / ".postgresql" / "root.crt"
    except RuntimeError:
        return Path("/nonexistent")
