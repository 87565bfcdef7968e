"""``pend-storage console``."""

from __future__ import annotations

from pathlib import Path

import click

from pend_storage._shown import shown
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session
from pend_storage.cli._status import ended_by_signals

__all__ = ["console"]

_PAGE = "127.0.0.1:8080"
_EXPORTER = "127.0.0.1:9187"
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(short_help="Look and steer in a browser; health and metrics.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help=f"Where to listen.  [default: {_PAGE}; {_EXPORTER} with --headless]",
)
@click.option(
    "--read-only",
    is_flag=True,
    envvar="PEND_CONSOLE_READ_ONLY",
    help="Only look: there are no actions.",
)
@click.option(
    "--headless", is_flag=True, help="Only health and metrics, for a service."
)
@click.option(
    "--token-file",
    type=_FILE,
    metavar="FILE",
    help="Log in with a token: lines NAME ROLES TOKEN, for its owner alone.",
)
@click.option(
    "--users",
    type=_FILE,
    metavar="FILE",
    help="Log in with a password: lines NAME ROLES HASH (argon2), for its owner alone.",
)
@click.option(
    "--trust-header",
    metavar="NAME",
    help="Header in which a proxy names the user, such as X-Forwarded-User.",
)
@click.option(
    "--trusted-proxy",
    multiple=True,
    metavar="CIDR",
    help="Network of the proxies that are believed. May be repeated.",
)
@click.option(
    "--grant",
    multiple=True,
    metavar="NAME=ROLES",
    help="Roles of a user of the proxy: view,operate,reveal; * is all others.  [default: "
    "*=view]",
)
@click.option(
    "--host",
    multiple=True,
    metavar="NAME",
    help="Further name by which browsers reach the console. May be repeated.",
)
@click.option("--runbook", metavar="URL", help="Address of your pages for operators.")
@pass_session
def console(
    session: Session,
    *,
    listen: str | None,
    read_only: bool,
    headless: bool,
    token_file: Path | None,
    users: Path | None,
    trust_header: str | None,
    trusted_proxy: tuple[str, ...],
    grant: tuple[str, ...],
    host: tuple[str, ...],
    runbook: str | None,
) -> Exit:
    """Serve the console of the environment until Ctrl-C or SIGTERM.

    It reads in a way that changes nothing. Without a login it listens on the loopback
    interface only. /livez, /readyz and /metrics are for containers and Prometheus.
    """
    from pend_storage.console._serving import Logins, parse_listen, serve

    place = parse_listen(listen or (_EXPORTER if headless else _PAGE))
    logins = Logins(
        token_file=token_file,
        users=users,
        trust_header=trust_header,
        trusted_proxies=trusted_proxy,
        grants=dict(_grant(text) for text in grant),
    )
    settings = session.settings if read_only or headless else session.settings_to_open
    url = ""

    def on_ready(address: str) -> None:
        nonlocal url
        url = address
        session.output.line(f"{settings.environment}: {address}", style="ok")

    # The server raises the signal that ended it once more, when all is closed.
    with ended_by_signals():
        serve(
            settings,
            place,
            logins,
            read_only=read_only,
            headless=headless,
            hosts=host,
            runbook=runbook,
            on_ready=on_ready,
        )
    return session.finish(Exit.DONE, {"url": url})


def _grant(text: str) -> tuple[str, tuple[str, ...]]:
    """Parse a name and its roles."""
    name, separator, roles = text.partition("=")
    if not separator or not name or not roles:
        raise click.UsageError(f"--grant: write NAME=ROLES, not {shown(text)}.")
    return name, tuple(roles.split(","))
