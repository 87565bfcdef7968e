"""Database URLs: validation, replacement of parts, redaction of secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import (
    SplitResult,
    parse_qsl,
    quote,
    unquote,
    urlencode,
    urlsplit,
)

__all__ = ["overridden_url", "shown_url", "url_fault", "with_parameters"]

_SCHEMES: Final = ("postgresql", "postgres")
_HIDDEN: Final = "***"
_SECRET: Final = re.compile("(?i)pass|secret|token")
_WRITTEN_OUT: Final = re.compile(r"(?i)(?P<name>password|passphrase)=[^&]*")
_BROKEN: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_HIGHEST_PORT: Final = 65_535


def url_fault(url: str) -> str | None:
    """Return the fault of a database URL, in a sentence without secrets; None if none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return (
            "the database URL cannot be read. Write postgresql://USER@HOST:PORT/NAME, "
            "with special characters of user and password percent-encoded."
        )
    if parts.scheme not in _SCHEMES:
        found = f"with {parts.scheme}:" if parts.scheme else "without that"
        return (
            f"the database URL must begin with postgresql://, and begins {found}. "
            "Write postgresql://USER@HOST:PORT/NAME."
        )
    # An unencoded "/", "?" or "#" in a password ends the host part early, so the "@" that
    # should end the login is found in what follows.
    beyond = parts.path + parts.fragment + ("" if parts.path else parts.query)
    if "@" in parts.netloc.rpartition("@")[0] + beyond or _BROKEN.search(url):
        return (
            "the database URL has an @ or a % in an odd place, so a special character of the "
            "password is not percent-encoded. Write %40 for @, %2F for /, %3F for ?, "
            "%23 for # and %25 for %."
        )
    if port is not None and not 0 < port <= _HIGHEST_PORT:
        return f"the port {port} of the database URL does not exist."
    return None


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


def shown_url(url: str) -> str:
    """Redact the secrets of a URL by stars, even where the URL is malformed."""
    # The last "@" ends the login: urlsplit would end it at a "/" of an unencoded password.
    head, at, tail = url.rpartition("@")
    scheme, slashes, login = head.partition("://")
    user, colon, _ = login.partition(":")
    if at:
        url = f"{scheme}{slashes}{user}{colon and ':' + _HIDDEN}@{tail}"
    place, mark, query = url.partition("?")
    url = place + mark + "&".join(map(_shown_parameter, query.split("&")))
    return _WRITTEN_OUT.sub(rf"\g<name>={_HIDDEN}", url)


def _shown_parameter(parameter: str) -> str:
    """Redact the value of a parameter whose name hints at a secret."""
    name, equals, _ = parameter.partition("=")
    is_secret = equals and _SECRET.search(unquote(name))
    return f"{name}={_HIDDEN}" if is_secret else parameter
