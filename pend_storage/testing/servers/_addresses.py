"""TCP addresses of servers: loopback only, and the same port after a restart."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from pend_storage.errors import ConfigError

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """TCP address of a server, beside its Unix socket.

    Attributes:
        listen: IP address, or None for the Unix socket alone.
        port: TCP port, None if there has never been one. It is kept while the server
            does not listen.
    """

    listen: str | None = None
    port: int | None = None


def loopback(address: str) -> str:
    """Return the address, if it is a loopback address.

    Raises:
        ConfigError: other machines could reach it.
    """
    try:
        fit = ipaddress.ip_address(address).is_loopback
    except ValueError:
        fit = False
    if not fit:
        raise ConfigError(
            f"listen={address!r}: embedded servers are not for other machines, and listen on a "
            "loopback address only, such as '127.0.0.1'."
        )
    return address


def read_address(path: Path) -> Address:
    """Read the last address; an empty one if there is none."""
    try:
        return Address(**json.loads(path.read_text()))
    except FileNotFoundError:
        return Address()


def choose_address(path: Path, listen: str | None) -> Address:
    """Choose an address and save it: the former port if it is free, else another."""
    former = read_address(path)
    port = former.port
    if listen is not None and not _is_free(listen, port):
        port = _free_port(listen)
        if former.port is not None:
            logger.warning("port %s of %s is taken; now %s", former.port, path, port)
    address = Address(listen, port)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(asdict(address)))
    unfinished.replace(path)
    return address


def _free_port(listen: str) -> int:
    with _socket(listen) as probe:
        probe.bind((listen, 0))
        return int(probe.getsockname()[1])


def _is_free(listen: str, port: int | None) -> bool:
    if port is None:
        return False
    with _socket(listen) as probe:
        # As the servers do: connections of a former server do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen, port))
        except OSError:
            return False
    return True


def _socket(listen: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in listen else socket.AF_INET)
