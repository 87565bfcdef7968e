"""Connections to other machines: the server is verified unless the settings differ.

The server has a certificate of an authority made here, for one name. It listens on the
loopback interface; ``hostaddr`` leads there, and the name is that of another machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from pend_storage.config import PostgresSettings, load_settings
from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.operations.database_status import server_facts
from pend_storage.operations.doctor._access import access_findings
from pend_storage.operations.doctor._findings import Finding
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._connection import tls
from pend_storage.stores.postgres._connection.address import Address
from pend_storage.testing.domain import SCHEMA, Tally
from pend_storage.testing.servers import EmbeddedPostgres, temporary_postgres

pytestmark = pytest.mark.timeout(120)

NAME = "db.example"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables of libpq nor a file of the home decide about TLS."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def openssl(*arguments: str) -> None:
    program = shutil.which("openssl")
    assert program is not None, "openssl is required by tests"
    subprocess.run([program, *arguments], check=True, capture_output=True)


def make_authority(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate authority; returns its certificate and its key."""
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-days", "2", "-subj", f"/CN={name}"),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    return certificate, key


def make_certificate(
    directory: Path, authority: tuple[Path, Path], name: str
) -> tuple[Path, Path]:
    """Make a certificate of a host; returns it and its key."""
    certificate, key, asked = (
        directory / f"host.{end}" for end in ("crt", "key", "csr")
    )
    names = directory / "names"
    names.write_text(f"subjectAltName=DNS:{name}\n")
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", str(key), "-out", str(asked)),
    )
    openssl(
        *("x509", "-req", "-days", "2", "-in", str(asked), "-extfile", str(names)),
        *("-CA", str(authority[0]), "-CAkey", str(authority[1]), "-CAcreateserial"),
        *("-out", str(certificate)),
    )
    return certificate, key


@dataclass(frozen=True)
class Place:
    """Server with TLS, and the certificates of its authority and of another one."""

    server: EmbeddedPostgres
    authority: Path
    other: Path

    def url(self, *settings: str, host: str = NAME) -> str:
        address, port = self.server.tcp_address
        more = "&".join((f"hostaddr={address}", *settings))
        login = f"postgres:{self.server.password}"
        return f"postgresql://{login}@{host}:{port}/postgres?{more}"


def turn_on(server: EmbeddedPostgres, certificate: Path, key: Path) -> None:
    """Give a server its certificate, and wait until it uses it."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        row = connection.execute("show data_directory").fetchone()
        assert row is not None
        data = Path(row[0])
        for file in (certificate, key):
            target = data / file.name
            shutil.copyfile(file, target)
            target.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(target, data.stat().st_uid, data.stat().st_gid)
        connection.execute(
            f"alter system set ssl_cert_file = '{certificate.name}'".encode()
        )
        connection.execute(f"alter system set ssl_key_file = '{key.name}'".encode())
        connection.execute("alter system set ssl = on")
        connection.execute("select pg_reload_conf()")
    host, port = server.tcp_address
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            psycopg.connect(
                host=host,
                port=port,
                user="postgres",
                password=server.password,
                dbname="postgres",
                sslmode="require",
            ).close()
        except psycopg.OperationalError:
            continue
        return
    pytest.fail("the server does not use TLS")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("tls")
    authority = make_authority(directory, "authority")
    other, _ = make_authority(directory, "other")
    certificate = make_certificate(directory, authority, NAME)
    with temporary_postgres(settings={"fsync": "off"}, listen="127.0.0.1") as server:
        turn_on(server, *certificate)
        with PostgresStore(SCHEMA, server.url) as store:
            store.migrate()
        yield Place(server, authority[0], other)


def connect(url: str) -> list[Event]:
    """Read and write through a store; returns its events."""
    events: list[Event] = []
    with PostgresStore(SCHEMA, url, hook=events.append) as store:
        store.collection(Tally).put(Tally(name="a", value=1))
        store.collection(Tally).get("a")
    return events


def refusal(url: str) -> PendStorageError:
    with pytest.raises(PendStorageError) as caught:
        connect(url)
    assert "try again" not in str(caught.value)
    return caught.value


def findings(url: str) -> dict[str, Finding]:
    settings = PostgresSettings(url=url)
    return {f.check: f for f in access_findings(settings, server_facts(settings))}


def test_a_certificate_of_a_trusted_authority_for_the_name_is_accepted(
    place: Place,
) -> None:
    url = place.url(f"sslrootcert={place.authority}")

    assert connect(url) == []
    assert findings(url)["tls"].state == "ok"
    assert "TLSv1" in findings(url)["tls"].message


def test_an_unknown_authority_is_refused_with_advice(place: Place) -> None:
    for settings in ([], [f"sslrootcert={place.other}"], ["sslmode=verify-full"]):
        error = refusal(place.url(*settings))

        assert isinstance(error, StoreUnavailable)
        assert "certificate verify failed" in str(error)
        assert "postgres.tls.root_certificate" in str(error)


def test_another_name_is_refused_with_advice(place: Place) -> None:
    url = place.url(f"sslrootcert={place.authority}", host="other.example")

    error = refusal(url)

    assert isinstance(error, StoreUnavailable)
    assert "does not match host name" in str(error)
    assert "name the host as the server's certificate does" in str(error).lower()


@pytest.mark.parametrize("mode", ["allow", "prefer", "require", "disable"])
def test_a_weaker_mode_is_kept_and_reported_once(place: Place, mode: str) -> None:
    url = place.url(f"sslmode={mode}")

    (event,) = connect(url)

    assert event.name == "connection-unverified"
    assert f"sslmode is {mode}" in event.message
    found = findings(url)["tls"]
    assert found.state == "warn"
    assert "verify-full" in found.remedy
    assert ("TLSv1" in found.message) == (mode in {"prefer", "require"})


def test_a_server_without_tls_is_refused_with_advice(place: Place) -> None:
    with temporary_postgres(settings={"fsync": "off"}, listen="127.0.0.1") as server:
        plain = Place(server, place.authority, place.other)

        error = refusal(plain.url())

        assert isinstance(error, StoreUnavailable)
        assert "does not support SSL" in str(error)
        assert "postgres.tls.mode" in str(error)
        found = findings(plain.url("sslmode=prefer"))["tls"]
        assert "not encrypted" in found.message


def test_the_database_on_this_machine_is_used_as_before(place: Place) -> None:
    for url in (place.server.url, place.server.tcp_url):
        assert connect(url) == []
        assert findings(url)["tls"].state == "ok"
        assert findings(url)["database role"].state == "ok"


def test_a_superuser_on_another_machine_is_reported(place: Place) -> None:
    found = findings(place.url(f"sslrootcert={place.authority}"))["database role"]

    assert found.state == "warn"
    assert "superuser" in found.message
    assert "db grants" in found.remedy


def test_what_the_server_proves_is_accepted(place: Place) -> None:
    settings = ("require_auth=scram-sha-256", "channel_binding=require")

    assert connect(place.url(f"sslrootcert={place.authority}", *settings)) == []


@pytest.mark.parametrize(
    "settings",
    [("require_auth=gss",), ("channel_binding=require", "sslmode=disable")],
    ids=["another method", "no binding"],
)
def test_what_the_server_must_prove_is_refused_with_advice(
    place: Place, settings: tuple[str, ...]
) -> None:
    error = refusal(place.url(f"sslrootcert={place.authority}", *settings))

    assert "postgres.tls.require_auth" in str(error)


def test_a_missing_file_of_authorities_is_named(place: Place) -> None:
    error = refusal(place.url("sslrootcert=/nowhere/root.crt"))

    assert isinstance(error, ConfigError)
    assert "postgres.tls.root_certificate" in str(error)


def test_every_setting_of_tls_stands_in_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "pend.toml"
    file.write_text(
        '[environments.x.postgres]\nurl = "postgresql://u@h/d"\n[environments.x.postgres.tls]\n'
        'mode = "verify-full"\nroot_certificate = "system"\nchannel_binding = "require"\n'
        'require_auth = "scram-sha-256"\n'
    )

    settings = load_settings(file, "x", environ={}).require_postgres()

    assert Address.parse(settings.full_url).effective == {
        "user": "u",
        "host": "h",
        "dbname": "d",
        "sslmode": "verify-full",
        "sslrootcert": "system",
        "channel_binding": "require",
        "require_auth": "scram-sha-256",
    }


@pytest.mark.parametrize(
    ("url", "added"),
    [
        ("postgresql://h/d", {"sslmode": "verify-full", "sslrootcert": "system"}),
        (
            "postgresql://10.0.0.1/d",
            {"sslmode": "verify-full", "sslrootcert": "system"},
        ),
        (
            "postgresql://localhost,h/d",
            {"sslmode": "verify-full", "sslrootcert": "system"},
        ),
        ("postgresql://h/d?sslmode=verify-full", {"sslrootcert": "system"}),
        ("postgresql://h/d?sslrootcert=/x", {"sslmode": "verify-full"}),
        ("postgresql://h/d?sslmode=prefer", {}),
        ("postgresql://localhost/d", {}),
        ("postgresql://LOCALHOST./d", {}),
        ("postgresql://127.8.9.1/d", {}),
        ("postgresql://[::1]:5433/d", {}),
        ("postgresql:///d?host=/run/postgresql", {}),
        ("postgresql:///d", {}),
        ("postgresql:///d?service=s", {}),
    ],
)
def test_the_defaults_follow_the_host(url: str, added: dict[str, str]) -> None:
    address = Address.parse(url)

    assert {
        k: v for k, v in address.effective.items() if k not in address.settings
    } == added


def test_variables_of_libpq_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "h")
    assert Address.parse("postgresql:///d").effective["sslmode"] == "verify-full"
    monkeypatch.setenv("PGSSLMODE", "require")
    address = Address.parse("postgresql:///d")
    assert "sslmode" not in address.effective
    assert address.weakness is not None


def test_an_older_libpq_reads_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psycopg.pq.version", lambda: 150_000)

    assert tls.tls_defaults({"host": "h"}) == {"sslmode": "verify-full"}


def test_a_file_of_authorities_in_the_home_is_used(tmp_path: Path) -> None:
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()

    assert tls.tls_defaults({"host": "h"}) == {"sslmode": "verify-full"}
