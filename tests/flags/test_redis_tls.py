"""The flag over TLS, at a real Redis, with a certification authority made for the test."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pend_storage.errors import StoreUnavailable
from pend_storage.flags import RedisFlag
from pend_storage.phases import Phase
from pend_storage.testing.servers import EmbeddedRedis
from pend_storage.testing.servers._places import server_account, temporary_home

from .recorder import Recorder

KEY = "pend:production:phase"
SECRET = "s" * 32


class Authority:
    """A certification authority in a directory that the server's user can read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate = directory / "ca.pem"
        self._openssl("genrsa", "-out", "ca.key", "2048")
        self._openssl(
            "req -x509 -new -key ca.key -days 2 -out ca.pem -subj",
            "/CN=authority of a test",
        )

    def certify(self, name: str) -> tuple[Path, Path]:
        """Make a certificate for a host; returns it and its key."""
        extensions = self.directory / "names.cnf"
        extensions.write_text(f"subjectAltName = {name}\n")
        self._openssl("genrsa", "-out", "server.key", "2048")
        self._openssl("req -new -key server.key -out server.csr -subj", "/CN=a server")
        self._openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
            "-extfile names.cnf -out server.pem"
        )
        key = self.directory / "server.key"
        key.chmod(0o644)  # the server runs as another user where a test is run by root
        return self.directory / "server.pem", key

    def _openssl(self, *arguments: str) -> None:
        words = [*arguments[0].split(), *arguments[1:]]
        command = ["openssl", *words]
        subprocess.run(command, cwd=self.directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    home = temporary_home(server_account())
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def authority(place: Path) -> Authority:
    directory = place / "authority"
    directory.mkdir(mode=0o755)
    return Authority(directory)


@pytest.fixture(scope="module")
def address(place: Path, authority: Authority) -> Iterator[str]:
    """Host and port of a Redis that speaks TLS, for the name localhost."""
    certificate, key = authority.certify("DNS:localhost")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(authority.certificate),
        "tls-auth-clients": "no",
    }
    with EmbeddedRedis(place / "home", executable=binary(), settings=settings):
        yield f"localhost:{port}"


def binary() -> Path | None:
    """The binary of the system: that of the wheel is built without TLS."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return None if found is None else Path(found)


def test_the_flag_works_over_tls(address: str, authority: Authority) -> None:
    url = f"rediss://{address}/0?ssl_ca_certs={authority.certificate}"
    flag = RedisFlag(url, KEY, signing_key=SECRET)
    told: Recorder[None] = Recorder()
    stop = flag.subscribe(lambda: told(None))
    told.wait(lambda all_: len(all_) >= 1)

    written = flag.write(Phase.PARALLEL, by="ann")
    told.wait(lambda all_: len(all_) >= 2)
    stop()

    assert flag.read() == written
    flag.close()


def test_a_server_whose_authority_is_not_known_is_refused(address: str) -> None:
    flag = RedisFlag(f"rediss://{address}/0", KEY)

    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        flag.read()
    flag.close()


def test_a_server_with_another_name_is_refused(
    address: str, authority: Authority
) -> None:
    other = address.replace("localhost", "127.0.0.1")
    flag = RedisFlag(f"rediss://{other}/0?ssl_ca_certs={authority.certificate}", KEY)

    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        flag.read()
    flag.close()


def test_a_client_without_tls_gets_nothing(address: str) -> None:
    flag = RedisFlag(f"redis://{address}/0", KEY)

    with pytest.raises(StoreUnavailable):
        flag.read()
    flag.close()
