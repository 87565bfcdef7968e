"""Clients of an example server that ask without a rest, and note what was acknowledged."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import httpx

from tests.examples.servers import as_admin

_Work: TypeAlias = Callable[[httpx.Client, int, int], None]

__all__ = ["Clients"]

_WRITERS: Final = 3
_READERS: Final = 2
_PAUSE: Final = 0.05
"""Seconds between two rounds: the point is that they never stop, not how many they are."""


class Clients:
    """Three that make wallets and change tiers, and two that read.

    Every answer must be the one that there is without a change of phase: anything else,
    also a connection that breaks, is a failure.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.wallets: dict[str, str] = {}
        """Phone hash to address, of those acknowledged."""
        self.tiers: dict[str, int] = {}
        """Phone hash to the tier that was acknowledged last."""
        self.changes: Counter[str] = Counter()
        """Acknowledged changes of tier, by phone hash."""
        self.reads = 0
        self.failures: list[str] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """They ask until the block ends."""
        threads = [
            threading.Thread(target=self._ask, args=(work, number))
            for work, count in ((self._write, _WRITERS), (self._read, _READERS))
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)

    def go_on(self, more: int = 10) -> None:
        """Wait until so many more wallets were acknowledged, and as many answers read."""
        wallets, reads = len(self.wallets) + more, self.reads + more
        while len(self.wallets) < wallets or self.reads < reads:
            assert not self.failures, self.failures
            assert not self._stop.wait(0.01)

    def _ask(self, work: _Work, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=60, headers=as_admin()) as client:
            for turn in itertools.count():
                if self._stop.wait(_PAUSE):
                    return
                try:
                    work(client, number, turn)
                except (httpx.HTTPError, AssertionError) as error:
                    self.failures.append(f"{work.__name__}: {error!r}")
                    return

    def _write(self, client: httpx.Client, number: int, turn: int) -> None:
        """Make a wallet, read it, and change its tier twice: at its version, and so."""
        serial = (number + 1) << 32 | turn
        user, address = f"0x{serial:064x}", f"0x{serial:040x}"
        body = {"phoneHash": user, "walletAddress": address}
        made = _answer(client.post("/users", json=body), httpx.codes.CREATED)
        self.wallets[user] = address
        tag = made.headers["ETag"]
        assert client.get(f"/users/{user}").headers["ETag"] == tag, "not its own write"
        for tier, headers in ((1 + turn % 5, {"If-Match": tag}), (turn % 5, {})):
            wanted = {"tier": tier, "reason": "load"}
            _answer(client.put(f"/users/{user}/tier", json=wanted, headers=headers))
            self.changes[user] += 1
            self.tiers[user] = tier

    def _read(self, client: httpx.Client, _number: int, _turn: int) -> None:
        """Read what was acknowledged: it must be there, as it was acknowledged."""
        known = list(self.wallets.copy().items())[-20:]  # others write it meanwhile
        for user, address in known:
            found = _answer(client.get(f"/users/{user}")).json()
            assert found["walletAddress"] == address
            log = _answer(client.get(f"/users/{user}/transactions")).json()
            assert [each["type"] for each in log["items"]] == ["wallet_creation"]
        _answer(client.get("/kyc/pending", params={"limit": 3}))
        _answer(client.get("/health"))
        self.reads += 1


def _answer(
    answer: httpx.Response, status: httpx.codes = httpx.codes.OK
) -> httpx.Response:
    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    return answer
