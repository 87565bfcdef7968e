"""The questions of the Pend server's pages are answered by indexes, not by reading all.

Numbers are those of the table of query needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pend_storage import field
from pend_storage.pend import SCHEMA
from pend_storage.query import Condition, make_query
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._connection.own_names import with_names
from pend_storage.stores.postgres._queries.conditions import query_statement
from pend_storage.stores.postgres._queries.statements import CollectionStatements
from pend_storage.testing.databases import Databases

ROWS = 20_000
HASH = "0x" + "ab" * 32
ADDRESS = "0x" + "cd" * 20

_SEED = {
    "users": """
        insert into users (id, phone_hash, blockchain_address, tier, status,
                           created_at, updated_at, version)
        select 'u' || i, '0x' || encode(sha256(i::text::bytea), 'hex'),
               '0x' || left(encode(sha256(i::text::bytea), 'hex'), 40), i % 6,
               (array['active', 'suspended', 'closed'])[1 + i % 3],
               now() - i * interval '1 minute', now(), 1
          from generate_series(1, {rows}) as i""",
    "assets": """
        insert into assets (id, type, title, description, category, status,
                            total_invested, investor_count, created_at, updated_at,
                            version)
        select 'a' || i, (array['investment', 'interest'])[1 + i % 2],
               'Project ' || md5(i::text), 'About ' || md5(i::text),
               'category ' || i % 200, 'active', i, i % 500,
               now() - i * interval '1 minute', now(), 1
          from generate_series(1, {rows}) as i""",
    "blockchain_events": """
        insert into blockchain_events (id, source, event_type, "timestamp",
                                       wallet_address, from_address, to_address,
                                       identity_hash, transaction_hash, processed,
                                       version)
        select 'e' || i, 'log', 'type' || i % 400, now() - i * interval '1 second',
               '0x' || left(encode(sha256((i % 300)::text::bytea), 'hex'), 40),
               '0x' || left(encode(sha256((i % 301)::text::bytea), 'hex'), 40),
               '0x' || left(encode(sha256((i % 302)::text::bytea), 'hex'), 40),
               '0x' || encode(sha256((i % 303)::text::bytea), 'hex'),
               '0x' || encode(sha256(i::text::bytea), 'hex'), i % 500 > 0, 1
          from generate_series(1, {rows}) as i""",
    "kyc_applications": """
        insert into kyc_applications (id, phone_hash, status, submitted_at,
                                      updated_at, version)
        select 'k' || i, '0x' || encode(sha256(i::text::bytea), 'hex'),
               case when i % 100 = 0 then 'pending_review' else 'verified' end,
               now() - i * interval '1 minute', now(), 1
          from generate_series(1, {rows}) as i""",
    "admin_logs": """
        insert into admin_logs (id, admin_id, action, created_at, content_hash,
                                occurrence, version)
        select 'l' || i, 'admin' || i % 300, 'action' || i % 200,
               now() - i * interval '1 minute', md5(i::text) || md5(i::text), 0, 1
          from generate_series(1, {rows}) as i""",
}


@pytest.fixture(scope="module")
def database(databases: Databases) -> Iterator[str]:
    url = databases.lend(SCHEMA)
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _SEED.values():
            connection.execute(statement.format(rows=ROWS).encode())
        connection.execute("vacuum analyze")
    yield url
    databases.give_back(url)


def plan_of(
    url: str, collection: str, where: list[Condition], **options: Any
) -> dict[str, Any]:
    """The plan of a query as the store asks it, and how it went."""
    spec = SCHEMA[collection]
    query = make_query(spec, where, **options)
    statement, values = query_statement(CollectionStatements(spec), query, None)
    with psycopg.connect(url) as connection:
        result = connection.pgconn.exec_params(
            b"explain (analyze, format json) "
            + with_names(statement.text.decode(), "public").encode(),
            values,
            None,
            statement.formats or None,
        )
        assert not result.error_message, result.error_message
        plan: dict[str, Any] = json.loads(result.get_value(0, 0) or b"")[0]["Plan"]
        return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def rows_read(plan: dict[str, Any]) -> int:
    """Rows that leaves of the plan gave or threw away."""
    leaves = [node for node in nodes(plan) if "Plans" not in node]
    return sum(
        int((n["Actual Rows"] + n.get("Rows Removed by Filter", 0)) * n["Actual Loops"])
        for n in leaves
    )


E = field("event_type")
SHAPES: list[tuple[str, str, list[Condition], dict[str, Any]]] = [
    ("1 list by type", "assets", [field("type") == "interest"], {"order_by": ["-created_at"], "limit": 25}),
    ("1 by sum", "assets", [], {"order_by": ["-total_invested"], "limit": 50}),
    ("1 by investors", "assets", [], {"order_by": ["-investor_count"], "limit": 50}),
    ("1 smallest sum", "assets", [], {"order_by": ["total_invested"], "limit": 50}),
    ("2 search", "assets", [field("title").contains("ABCD12")], {"limit": 25}),
    ("2 search in either", "assets", [field("title").contains("abcd12") | field("description").contains("abcd12")], {"limit": 25}),
    ("5 queue", "kyc_applications", [field("status") == "pending_review"], {"order_by": ["submitted_at"], "limit": 25}),
    ("8 users", "users", [], {"order_by": ["-created_at"], "limit": 100}),
    ("9 part of an address", "users", [field("blockchain_address").contains("ABCDE1")], {"limit": 25}),
    ("14 trail of an admin", "admin_logs", [field("admin_id") == "admin7"], {"order_by": ["-created_at"], "limit": 50}),
    ("14 trail of an action", "admin_logs", [field("action") == "action7"], {"order_by": ["-created_at"], "limit": 50}),
    ("19 by hash", "users", [field("phone_hash") == HASH], {"limit": 1}),
    ("19 by address", "users", [field("blockchain_address") == ADDRESS], {"limit": 1}),
    ("21 own transactions", "blockchain_events", [field("wallet_address") == ADDRESS], {"order_by": ["-timestamp"], "limit": 50}),
    ("21 by identity", "blockchain_events", [field("identity_hash") == HASH], {"order_by": ["-timestamp"], "limit": 50}),
    ("25 category", "assets", [field("category") == "category 7"], {"limit": 3}),
    ("27 newest", "blockchain_events", [], {"order_by": ["-timestamp"], "limit": 50}),
    ("27 by type", "blockchain_events", [E == "type7"], {"order_by": ["-timestamp"], "limit": 50}),
    ("27 by sender", "blockchain_events", [field("from_address") == ADDRESS], {"order_by": ["-timestamp"], "limit": 50}),
    ("27 to or from", "blockchain_events", [(field("from_address") == ADDRESS) | (field("to_address") == ADDRESS)], {"order_by": ["-timestamp"], "limit": 50}),
    ("29 one", "blockchain_events", [field("transaction_hash") == HASH], {"limit": 1}),
    ("30 by beginning", "blockchain_events", [field("transaction_hash").starts_with("0xab12")], {"limit": 10}),
    ("30 one of some", "users", [field("id").in_(["u1", "u2", "u20001"])], {}),
    ("37 unprocessed", "blockchain_events", [field("processed") == False], {"order_by": ["-timestamp"], "limit": 50}),  # noqa: E712
]  # fmt: skip


@pytest.mark.parametrize(
    ("collection", "where", "options"),
    [shape[1:] for shape in SHAPES],
    ids=[shape[0] for shape in SHAPES],
)
def test_an_index_answers(
    database: str, collection: str, where: list[Condition], options: dict[str, Any]
) -> None:
    plan = plan_of(database, collection, where, **options)

    kinds = {node["Node Type"] for node in nodes(plan)}
    assert "Seq Scan" not in kinds, plan
    assert rows_read(plan) < ROWS / 20, plan


@pytest.mark.parametrize("order_by", [["-timestamp"], ["-timestamp", "id"]])
def test_a_late_page_costs_as_little_as_the_first(
    database: str, order_by: list[str]
) -> None:
    with PostgresStore(SCHEMA, database) as store:
        (middle,) = store.query(
            "blockchain_events",
            make_query(
                SCHEMA["blockchain_events"], [field("id") == f"e{ROWS // 2}"], limit=1
            ),
        )
    values = (middle.record.timestamp, middle.key)[: len(order_by)]

    plan = plan_of(
        database,
        "blockchain_events",
        [],
        order_by=order_by,
        limit=50,
        after=(values, middle.key),
    )

    assert rows_read(plan) < 200, plan


def test_deleting_what_is_referred_to_reads_no_whole_table(database: str) -> None:
    with psycopg.connect(database) as connection:
        for spec in SCHEMA:
            for name in spec.references:
                found = connection.execute(
                    "select count(*) from pg_index as i join pg_attribute as a "
                    "on a.attrelid = i.indrelid and a.attnum = i.indkey[0] "
                    "where i.indrelid = to_regclass(%s) and a.attname = %s",
                    (spec.name, name),
                ).fetchone()
                assert found is not None
                assert found[0] > 0, f"{spec.name}.{name}"
