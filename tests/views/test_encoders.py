"""Views as answers: json.dumps, Flask and FastAPI."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import fastapi.encoders
import flask
import httpx
import pytest
from fastapi import FastAPI
from flask.json.provider import DefaultJSONProvider
from typing_extensions import override

import pend_storage as ps
from pend_storage.stores.memory import MemoryStore
from tests.views.making import LIST_FILE, LOG_FILE, MAP_FILE, WRAPPED_FILE

USERS = {
    "ann": {"coins": 5, "tags": ["a", {"b": None}]},
    "bob": {"coins": 0, "tags": []},
}
LOG = [{"n": 2}, [1, [2]], "x", None]


@pytest.fixture
def store(memory_store: MemoryStore) -> MemoryStore:
    memory_store.legacy(MAP_FILE).update(USERS)
    memory_store.legacy(LIST_FILE).extend(LOG)
    memory_store.legacy(WRAPPED_FILE)["items"] = LOG
    memory_store.legacy(WRAPPED_FILE)["settings"] = USERS
    return memory_store


def whole(store: MemoryStore) -> dict[str, Any]:
    """A view of each kind."""
    users, log = store.legacy(MAP_FILE), store.legacy(LIST_FILE)
    return {
        "map": users,
        "list": log,
        "wrapped": store.legacy(WRAPPED_FILE),
        "object": users["ann"],
        "array": users["ann"]["tags"],
        "items": list(log),
        "members": dict(users),
        "empty": store.legacy(LOG_FILE),
    }


PLAIN = {
    "map": USERS,
    "list": LOG,
    "wrapped": {"items": LOG, "settings": USERS},
    "object": USERS["ann"],
    "array": USERS["ann"]["tags"],
    "items": LOG,
    "members": USERS,
    "empty": [],
}


def test_json_dumps_by_the_hook(store: MemoryStore) -> None:
    text = json.dumps(whole(store), default=ps.json_default)

    assert json.loads(text) == PLAIN


def test_what_is_no_view_is_refused_as_by_json() -> None:
    for value in (object(), {1}, b"x"):
        with pytest.raises(TypeError) as theirs:
            json.dumps(value)
        with pytest.raises(TypeError) as ours:
            json.dumps(value, default=ps.json_default)
        assert str(ours.value) == str(theirs.value)


class Provider(DefaultJSONProvider):
    """As the how-to has it."""

    @staticmethod
    @override
    def default(value: Any) -> Any:
        try:
            return ps.json_default(value)
        except TypeError:
            return DefaultJSONProvider.default(value)


def test_flask_gives_views_as_json(store: MemoryStore) -> None:
    app = flask.Flask("views")
    app.json = Provider(app)

    @app.get("/<name>")
    def answer(name: str) -> flask.Response:
        return flask.jsonify(whole(store)[name])

    client = app.test_client()
    for name, value in PLAIN.items():
        assert client.get(f"/{name}").get_json() == value


def test_fastapi_gives_views_as_json(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        fastapi.encoders.encoders_by_class_tuples,
        ps.json_default,
        (MutableMapping, MutableSequence),
    )
    app = FastAPI()

    @app.get("/{name}", response_model=None)
    def answer(name: str) -> Any:
        return whole(store)[name]

    async def ask() -> dict[str, Any]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://x"
        ) as client:
            return {name: (await client.get(f"/{name}")).json() for name in PLAIN}

    assert asyncio.run(ask()) == PLAIN


def test_what_a_view_is(store: MemoryStore) -> None:
    views = whole(store)
    for name in ("map", "wrapped", "object"):
        assert isinstance(views[name], Mapping | MutableMapping)
        assert not isinstance(views[name], Sequence)
    for name in ("list", "array", "empty"):
        assert isinstance(views[name], Sequence | MutableSequence)
        assert not isinstance(views[name], Mapping)


def test_copies(store: MemoryStore) -> None:
    users = store.legacy(MAP_FILE)

    deep, unpickled = copy.deepcopy(users), pickle.loads(pickle.dumps(users))  # noqa: S301
    shallow = copy.copy(users)
    deep["ann"]["coins"] = unpickled["ann"]["coins"] = 7
    shallow["bob"]["coins"] = 8  # as in a shallow copy of a dict
    shallow["cyd"] = {}

    assert type(deep) is type(unpickled) is type(shallow) is dict
    assert users == {**USERS, "bob": {"coins": 8, "tags": []}}


def test_what_they_look_like(store: MemoryStore) -> None:
    users = store.legacy(MAP_FILE)

    assert f"{users['ann']['tags']}" == str(USERS["ann"]["tags"])
    assert f"{users}" == str(USERS)
    assert repr(users["bob"]) == repr(USERS["bob"])
    assert repr(users).startswith(f"<live view of {MAP_FILE}: {{'ann'")


def test_keys_are_written_as_json_dump_writes_them(store: MemoryStore) -> None:
    users = store.legacy(LOG_FILE)
    users.append({5: 1, None: {True: 2}, 1.5: 3})

    assert users[0] == json.loads(json.dumps({5: 1, None: {True: 2}, 1.5: 3}))
    with pytest.raises(TypeError, match="keys must be str, int, float, bool or None"):
        users[0][1, 2] = 3


async def _asked(store: MemoryStore) -> int:
    async with ps.AsyncStore(store) as db:
        with pytest.raises(ps.ConfigError, match=r"await db.call\(lambda store"):
            db.legacy(MAP_FILE)
        with pytest.raises(ps.ConfigError, match=r"await db.call\(lambda store"):
            db.transaction().legacy(MAP_FILE)
        coins: int = await db.call(lambda s: s.legacy(MAP_FILE)["ann"]["coins"])
        return coins


def test_an_asynchronous_store_says_how_to_come_by_a_view(store: MemoryStore) -> None:
    assert asyncio.run(_asked(store)) == 5
