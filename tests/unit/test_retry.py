"""The pauses between repetitions."""

from __future__ import annotations

import pytest

from pend_storage._retry import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.5, 3.0)

    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_success_begins_anew() -> None:
    backoff = Backoff(0.5, 3.0)
    backoff.next()

    backoff.reset()

    assert backoff.next() == 0.5


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_pause_is_shortened_by_a_share_at_most(share: float) -> None:
    for _ in range(100):
        assert 2.0 * (1 - share) <= Backoff(2.0, 2.0, share=share).next() <= 2.0


def test_many_who_wait_do_not_come_back_together() -> None:
    assert len({Backoff(1.0, 1.0, share=0.5).next() for _ in range(100)}) > 90
