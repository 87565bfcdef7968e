"""Database URLs: validation, replacement of parts, and what of them may be shown.

A URL is shown by its parsed parts, and only those of an allow-list. A URL that cannot be
parsed is never quoted: which part of it is the password is not known then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import (
    SplitResult,
    parse_qsl,
    quote,
    unquote,
    urlencode,
    urlsplit,
)

from pend_storage._secrets import may_hold_secret

__all__ = ["has_secret", "overridden_url", "shown_url", "url_fault", "with_parameters"]

_SCHEMES: Final = ("postgresql", "postgres")
_SHOWN_SCHEMES: Final = frozenset(
    {
        *_SCHEMES,
        "redis",
        "rediss",
        "unix",
        "http",
        "https",
        "mysql",
        "mariadb",
        "sqlite",
    }
    | {
        "mongodb",
        "postgresql+psycopg",
        "postgresql+psycopg2",
        "postgresql+asyncpg",
        "jdbc",
    }
)
"""Schemes that error messages may name. Any other one may be the beginning of a secret."""
_HIDDEN: Final = "***"
_SHOWN_PARAMETERS: Final = frozenset(
    {"host", "hostaddr", "port", "dbname", "user", "db", "sslmode", "sslnegotiation"}
    | {"channel_binding", "require_auth", "gssencmode", "target_session_attrs"}
    | {"load_balance_hosts", "connect_timeout"}
)
"""Parameters that are shown with their values."""
_NAMED_PARAMETERS: Final = frozenset(
    {"password", "passfile", "service", "application_name", "options", "sslpassword"}
    | {"sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "client_encoding"}
    | {"oauth_client_secret", "oauth_client_id", "oauth_issuer", "oauth_scope"}
    | {"scram_client_key", "scram_server_key", "krbsrvname", "username", "ssl_ca_certs"}
    | {"ssl_password", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile"}
)
"""Parameters that are shown by name only. A name that is not known is not shown either: it
may be a part of a password with an ``&`` in it."""
_HARMLESS: Final = re.compile(r"[\w.,:/\[\]*-]*", re.ASCII)
_HOSTS: Final = re.compile(r"[\w.,:%\[\]-]*")
_BROKEN: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]|^\s|\s$")
_PORTS: Final = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d*))?")
_HIGHEST_PORT: Final = 65_535
_UNREADABLE: Final = (
    "the database URL cannot be read. Write postgresql://USER@HOST:PORT/NAME, "
    "with special characters of user and password percent-encoded."
)


def url_fault(url: str) -> str | None:
    """Return the fault of a database URL, in a sentence without secrets; None if none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _UNREADABLE
    if parts.scheme not in _SCHEMES:
        found = (
            f"with {parts.scheme}:"
            if parts.scheme in _SHOWN_SCHEMES
            else "without that"
        )
        return (
            f"the database URL must begin with postgresql://, and begins {found}. "
            "Write postgresql://USER@HOST:PORT/NAME."
        )
    if _CONTROL.search(url):
        return _UNREADABLE
    # An unencoded "/", "?" or "#" in a password ends the host part early, so the "@" that
    # should end the login is found in what follows.
    beyond = parts.path + parts.fragment + ("" if parts.path else parts.query)
    names = "".join(item.partition("=")[0] for item in parts.query.split("&"))
    if "@" in parts.netloc.rpartition("@")[0] + beyond + names or _BROKEN.search(url):
        return (
            "the database URL has an @ or a % in an odd place, so a special character of the "
            "password is not percent-encoded. Write %40 for @, %2F for /, %3F for ?, "
            "%23 for # and %25 for %."
        )
    return _place_fault(parts)


def _place_fault(parts: SplitResult) -> str | None:
    """Return the fault of host, port or database; their values are never quoted."""
    bare = parts.netloc.rpartition("@")[2]
    places = [unquote(bare), unquote(parts.path)]
    places += [v for k, v in _parameters(parts) if k in {"host", "hostaddr", "dbname"}]
    if any("@" in place for place in places):
        return (
            "the database URL has an @ in the name of the host or of the database. Write "
            "postgresql://USER@HOST:PORT/NAME, and encode user and password only once."
        )
    ports = [v for k, v in _parameters(parts) if k == "port"]
    for host in bare.split(","):
        found = _PORTS.fullmatch(host)
        if found is None:
            return _UNREADABLE
        ports.append(found["port"] or "")
    for port in ",".join(ports).split(","):
        if port and not _is_port(port):
            return (
                "the port of the database URL is not a number from 1 to "
                f"{_HIGHEST_PORT}. Write postgresql://USER@HOST:PORT/NAME."
            )
    return None


def _is_port(text: str) -> bool:
    is_short_number = text.isascii() and text.isdigit() and len(text) <= len("65535")
    return is_short_number and 0 < int(text) <= _HIGHEST_PORT


def overridden_url(url: str | None, parts: Mapping[str, str]) -> str:
    """Replace parts of a URL: host, port, name, user, password.

    Without a URL to start from, the rest is ``postgresql://localhost:5432/``.
    """
    old = urlsplit(url or "postgresql://localhost:5432/")
    query = [(k, v) for k, v in _parameters(old) if k not in parts]
    user, password = _part(parts, "user", old.username), parts.get("password")
    if password is None and old.password is not None:
        password = unquote(old.password)
    login = "" if user is None else quote(user, safe="")
    if password is not None:
        login += f":{quote(password, safe='')}"
    if "host" in parts:
        # libpq connects to hostaddr whatever the host is.
        query = [(k, v) for k, v in query if k != "hostaddr"]
    place = _host_and_port(old, parts)
    path = f"/{quote(parts['name'], safe='')}" if "name" in parts else old.path
    return old._replace(
        netloc=f"{login}@{place}" if login else place, path=path, query=_encoded(query)
    ).geturl()


def _part(parts: Mapping[str, str], name: str, old: str | None) -> str | None:
    return parts.get(name, None if old is None else unquote(old))


def _host_and_port(old: SplitResult, parts: Mapping[str, str]) -> str:
    """Return host and port; several hosts of one URL stay unless they are replaced."""
    bare = old.netloc.rpartition("@")[2]
    if "host" not in parts and "port" not in parts:
        return bare
    host = parts.get("host")
    if host is None:
        host = bare.rpartition(":")[0] if re.search(r":\d+$", bare) else bare
    elif host.startswith("/"):
        host = quote(host, safe="")  # the directory of a Unix socket
    elif ":" in host:
        host = f"[{host}]"
    port = parts.get("port")
    if port is None and (found := re.search(r":(\d+)$", bare)):
        port = found[1]
    return host if port is None else f"{host}:{port}"


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """Set parameters of a URL; present ones of the same names are replaced."""
    if not parameters:
        return url
    parts = urlsplit(url)
    kept = [(k, v) for k, v in _parameters(parts) if k not in parameters]
    query = [*kept, *parameters.items()]
    return parts._replace(query=_encoded(query)).geturl()


def _parameters(parts: SplitResult) -> list[tuple[str, str]]:
    # parse_qsl decodes a plus as a space, and libpq does not.
    return parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True)


def _encoded(query: list[tuple[str, str]]) -> str:
    """Encode parameters for libpq, to which a plus is a plus and no space."""
    return urlencode(query, safe="/", quote_via=quote)


def has_secret(url: str) -> bool:
    """Return whether a URL holds a secret, or may do so because it is malformed."""
    parts = _readable(url)
    if parts is None or ":" in unquote(parts.netloc.rpartition("@")[0]):
        return True
    return any(may_hold_secret(name) for name, _ in _parameters(parts))


def shown_url(url: str) -> str:
    """Return what of a URL may be shown: the parts of an allow-list, the others as stars.

    Also for the URLs of Redis. Of a malformed URL nothing is shown.
    """
    parts = _readable(url)
    if parts is None:
        return f"{_known_scheme(url)}://{_HIDDEN}"
    login, at, place = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    if not _HARMLESS.fullmatch(unquote(user)) or ":" in unquote(user):
        user = _HIDDEN
    shown = f"{parts.scheme}://{user}{colon and ':' + _HIDDEN}{at}"
    shown += (place if _HOSTS.fullmatch(place) else _HIDDEN) + parts.path
    return shown + "".join(_shown_parameters(parts))


def _shown_parameters(parts: SplitResult) -> Iterator[str]:
    mark = "?"
    for item in filter(None, parts.query.split("&")):
        name, _, value = (unquote(part) for part in item.partition("="))
        is_plain = name in _SHOWN_PARAMETERS and _HARMLESS.fullmatch(value)
        if is_plain and item.startswith(f"{name}="):
            yield mark + item
        elif name in _SHOWN_PARAMETERS | _NAMED_PARAMETERS:
            yield f"{mark}{name}={_HIDDEN}"
        else:
            yield mark + _HIDDEN
        mark = "&"


def _readable(url: str) -> SplitResult | None:
    """Parse a URL of a database or of Redis; None if it is malformed."""
    scheme, slashes, rest = url.partition("://")
    if not slashes or scheme not in _SHOWN_SCHEMES:
        return None
    return None if url_fault(f"postgresql://{rest}") else urlsplit(url)


def _known_scheme(url: str) -> str:
    scheme = url.partition("://")[0]
    return scheme if scheme in _SHOWN_SCHEMES else "postgresql"
