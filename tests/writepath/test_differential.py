"""An operation on a view, and the same one on the file by plain json, give the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pend_storage.pend import User

from .twins import twins

WALLETS = "wallet-db.json"
KYC = "uploads/kyc/metadata.json"
LOGS = "admin-logs.json"
SERVER_LOGS = "server-logs.json"
CONSENTS = "consents-db.json"
TIERS = "admin-pool-tiers.json"
DIRECTORY = "explorer-data/wallets-directory.json"

Step: TypeAlias = tuple[str, Any, Any]

NAMES = [f"0x{n:064x}" for n in (0xA1, 0xB2, 0xC3)]
SPELLED = [*NAMES, NAMES[0].upper().replace("0X", "0x"), NAMES[1][2:], "absent"]
ADDRESSES = [f"0x{n:040x}" for n in (0xA1, 0xB2, 0xC3)]
TIME = "2025-06-19T07:58:56.380Z"

addresses: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(ADDRESSES),
    st.sampled_from(
        [
            None,
            7,
            "nothing",
            {"address": ADDRESSES[0], "n": 1},
            {"wallet": "\x00"},
            ADDRESSES[1].upper().replace("0X", "0x"),
        ]
    ),
)
entries: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["verified", "rejected", "odd"]).map(
        lambda word: {"verificationStatus": word, "lastUpdated": TIME, "note": word}
    ),
    st.sampled_from([None, {"verificationStatus": "verified"}, []]),
)
wallet_of = st.sampled_from(ADDRESSES).map(
    lambda address: {
        "address": address,
        "identityHash": f"0x{int(address, 16):064x}",
        "maskedPhone": "010****",
    }
)
values: dict[str, st.SearchStrategy[Any]] = {
    WALLETS: addresses,
    KYC: entries,
    CONSENTS: st.sampled_from([None, 0, "", [], {"a": {"b": [1]}}, 1.5, "x", "\x00"]),
    DIRECTORY: wallet_of | st.just("nothing"),
}


def map_steps(file: str) -> st.SearchStrategy[Step]:
    name, value = st.sampled_from(SPELLED), values[file]
    return st.one_of(
        st.tuples(st.just("set"), name, value),
        st.tuples(st.just("del"), name, st.none()),
        st.tuples(st.just("pop"), name, st.just(0)),
        st.tuples(st.just("setdefault"), name, value),
        st.tuples(
            st.just("update"),
            st.none(),
            st.dictionaries(name, value, min_size=1, max_size=4),
        ),
        st.tuples(st.just("swap"), name, name),
        st.tuples(st.just("popitem"), st.none(), st.none()),
        st.tuples(st.just("clear"), st.none(), st.none()),
    )


def of_map(step: Step) -> Callable[[Any], Any]:
    what, name, value = step

    def swap(target: Any) -> None:
        target[name], target[value] = target[value], target[name]

    doing: dict[str, Callable[[Any], Any]] = {
        "set": lambda m: m.__setitem__(name, value),
        "del": lambda m: m.__delitem__(name),
        "pop": lambda m: m.pop(name, value),
        "setdefault": lambda m: m.setdefault(name, value),
        "update": lambda m: m.update(value),
        "popitem": lambda m: list(m.popitem()),
        "clear": lambda m: m.clear(),
        "swap": swap,
    }
    return doing[what]


def file_and_step(*files: str) -> st.SearchStrategy[tuple[str, Step]]:
    return st.sampled_from(files).flatmap(
        lambda file: st.tuples(st.just(file), map_steps(file))
    )


STATUS = {"verificationStatus": "verified", "lastUpdated": TIME}


@settings(max_examples=40)
@given(
    wallets=st.dictionaries(st.sampled_from(SPELLED), addresses, max_size=4),
    kyc=st.dictionaries(st.sampled_from(SPELLED), entries, max_size=3),
    script=st.lists(file_and_step(WALLETS, KYC), max_size=6),
    closed=st.booleans(),
)
@example(  # a swap by two assignments, and a profile of another file, too
    wallets=dict(zip(NAMES, ADDRESSES, strict=True)),
    kyc={NAMES[1]: STATUS},
    script=[(WALLETS, ("swap", NAMES[0], NAMES[1]))],
    closed=False,
)
@example(  # a swap of an object and a text, whose views one look has made
    wallets={NAMES[0]: {"address": ADDRESSES[0], "n": 1}, NAMES[1]: ADDRESSES[0]},
    kyc={},
    script=[(WALLETS, ("swap", NAMES[0], NAMES[1]))] * 2,
    closed=True,
)
@example(  # a swap of two objects
    wallets={},
    kyc={NAMES[0]: STATUS, NAMES[1]: {**STATUS, "note": "another"}},
    script=[(KYC, ("swap", NAMES[0], NAMES[1])), (KYC, ("swap", NAMES[1], NAMES[0]))],
    closed=True,
)
@example(  # what waits for a value comes before another spelling that has its key
    wallets={
        NAMES[0]: ADDRESSES[0],
        NAMES[1][2:]: ADDRESSES[0],
        NAMES[1]: ADDRESSES[1],
    },
    kyc={},
    script=[(WALLETS, ("del", NAMES[0], None))],
    closed=True,
)
@example(  # what goes on waiting waits for another reason
    wallets={NAMES[0]: None, NAMES[1]: ADDRESSES[1], SPELLED[3]: ADDRESSES[1]},
    kyc={},
    script=[(WALLETS, ("set", NAMES[0], ADDRESSES[0]))],
    closed=False,
)
@example(  # an application that was there before its wallet
    wallets={},
    kyc={NAMES[1]: STATUS},
    script=[
        (WALLETS, ("set", NAMES[1], ADDRESSES[1])),
        (KYC, ("set", NAMES[0], STATUS)),
    ],
    closed=False,
)
@example(  # away, and back again
    wallets=dict(zip(NAMES, ADDRESSES, strict=True)),
    kyc={NAMES[1]: STATUS},
    script=[
        (WALLETS, ("del", NAMES[1], None)),
        (WALLETS, ("set", NAMES[1], ADDRESSES[1])),
    ],
    closed=True,
)
def test_wallets_and_applications(
    wallets: dict[str, Any],
    kyc: dict[str, Any],
    script: list[tuple[str, Step]],
    *,
    closed: bool,
) -> None:
    with twins(**{WALLETS: wallets, KYC: kyc}) as both:
        both.check()
        for file, step in script:
            both.do(file, of_map(step))
            both.check()
        if closed:
            both.reopen()
            both.check()


@settings(max_examples=20)
@given(
    start=st.dictionaries(st.sampled_from(SPELLED), values[CONSENTS], max_size=4),
    listed=st.dictionaries(st.sampled_from(NAMES), values[DIRECTORY], max_size=3),
    script=st.lists(file_and_step(CONSENTS, DIRECTORY), max_size=6),
)
def test_documents_of_maps(
    start: dict[str, Any], listed: dict[str, Any], script: list[tuple[str, Step]]
) -> None:
    wallets = dict(zip(NAMES, ADDRESSES, strict=True))
    files = {
        WALLETS: wallets,
        CONSENTS: start or {"k": 1},
        DIRECTORY: listed or {"k": 1},
    }
    with twins(**files) as both:
        for file, step in script:
            if (
                step[0] in {"clear", "del", "pop", "popitem"}
                and len(both.plain[file]) < 2
            ):
                continue  # an empty file of a shape that is not declared has none
            both.do(file, of_map(step))
            both.check()


# -- lists ------------------------------------------------------------------------------


def log(number: int) -> Any:
    if number == 3:
        return {"timestamp": TIME, "data": 3}
    return {"action": f"A{number}", "timestamp": TIME, "data": {"id": number}}


list_steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("append"), st.none(), st.integers(0, 3)),
    st.tuples(st.just("insert"), st.integers(-4, 4), st.integers(0, 3)),
    st.tuples(st.just("set"), st.integers(-4, 4), st.integers(0, 3)),
    st.tuples(st.just("del"), st.integers(-4, 4), st.none()),
    st.tuples(st.just("pop"), st.integers(-4, 4), st.none()),
    st.tuples(st.just("remove"), st.none(), st.integers(0, 3)),
    st.tuples(st.just("all"), st.none(), st.lists(st.integers(0, 3), max_size=4)),
    st.tuples(st.just("reverse"), st.none(), st.none()),
)


def of_list(step: Step, wrapper: str) -> Callable[[Any], Any]:
    what, index, value = step

    def replaced(items: Any) -> None:
        items[:] = [log(n) for n in value]

    doing: dict[str, Callable[[Any], Any]] = {
        "append": lambda x: x.append(log(value)),
        "insert": lambda x: x.insert(index, log(value)),
        "set": lambda x: x.__setitem__(index, log(value)),
        "del": lambda x: x.__delitem__(index),
        "pop": lambda x: x.pop(index),
        "remove": lambda x: x.remove(log(value)),
        "reverse": lambda x: x.reverse(),
        "all": replaced,
    }
    return lambda file: doing[what](file[wrapper])


@pytest.mark.parametrize("file", [LOGS, SERVER_LOGS])
@settings(max_examples=20)
@given(
    start=st.lists(st.integers(0, 3), max_size=4),
    script=st.lists(list_steps, max_size=6),
)
def test_lists(file: str, start: list[int], script: list[Step]) -> None:
    with twins(**{file: {"logs": [log(n) for n in start], "n": 1}}) as both:
        for step in script:
            both.do(file, of_list(step, "logs"))
            both.check()


def test_the_twins_can_tell_a_difference() -> None:
    with twins(**{WALLETS: {NAMES[0]: ADDRESSES[0]}}) as both:
        both.by_view.legacy(WALLETS)[NAMES[1]] = ADDRESSES[1]
        with pytest.raises(AssertionError):
            both.check()
        assert json.loads((both.edits / WALLETS).read_text()) == both.plain[WALLETS]
        both.plain[WALLETS][NAMES[1]] = ADDRESSES[1]
        user = User(phone_hash=NAMES[2], blockchain_address=ADDRESSES[2], tier=2)
        both.by_view.collection(User).put(user)
        both.plain[WALLETS][NAMES[2]] = ADDRESSES[2]
        both.by_edit.legacy(WALLETS).update(both.plain[WALLETS])
        with pytest.raises(AssertionError):  # the files are the same, the rows are not
            both.check()
