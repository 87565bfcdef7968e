"""The legacy files of the Pend server, every irregularity and every damage."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.layout import Entry
from pend_storage.legacy import CODES, RecordLayout
from pend_storage.pend import (
    LAYOUTS,
    SCHEMA,
    AdminLog,
    Asset,
    BlockchainEvent,
    Document,
    KycApplication,
    User,
    UserProfile,
)
from pend_storage.pend._files.documents import DocumentMapping
from pend_storage.pend._identity import user_id_of
from pend_storage.sample_data.damage import Damage
from pend_storage.sample_data.entries import LegacyFile
from pend_storage.sample_data.irregular import (
    IRREGULARITIES,
    ChangeContext,
    Expected,
    Irregularity,
)
from pend_storage.sample_data.world import World
from pend_storage.sample_data.writer import FILES, generate
from pend_storage.schema import QUARANTINE
from pend_storage.validation._exact_json_compare import unequal

WORLD = World(1, 25, 40)
LAYOUT = {layout.file: layout for layout in LAYOUTS}
FILE = {file.name: file for file in FILES}
HASH = "0x" + "ab" * 32
ADDRESS = "0x" + "cd" * 20
TIME = "2025-06-19T07:58:56.380Z"


def text_of(file: LegacyFile, entries: list[Any]) -> bytes:
    """A file as the server writes it."""
    frame = file.frame
    body = ",".join(frame.margin + entry.text(frame.margin) for entry in entries)
    text = frame.opening + body + (frame.end if entries else frame.closing)
    return text.encode(errors="backslashreplace")


def entries_of(layout: RecordLayout, raw: bytes) -> list[Entry]:
    return list(layout.parse(SCHEMA, raw).entries)


def rendered(layout: RecordLayout, raw: bytes) -> bytes:
    parsed = layout.parse(SCHEMA, raw)
    records = [entry.home.record for entry in parsed.entries]
    records.sort(key=lambda record: layout.order(record, 1))
    texts = (layout.render_one(parsed.header, record) for record in records)
    return b"".join(layout.assemble(parsed.header, texts))


def only(file: str, value: Any, name: str = HASH) -> Any:
    """The one record of a file that holds this."""
    layout = LAYOUT[file]
    held = {name: value} if layout.shapes[0] == "map" else [value]
    (entry,) = entries_of(layout, json.dumps(held).encode())
    return entry.home.record


# -- irregular records --------------------------------------------------------------


@pytest.mark.parametrize("irregularity", IRREGULARITIES.values(), ids=lambda i: i.name)
def test_an_irregular_record_ends_where_it_should_and_the_file_comes_back(
    irregularity: Irregularity,
) -> None:
    file, layout = FILE[irregularity.file], LAYOUT[irregularity.file]
    entries = list(file.entries(WORLD, Random("regular")))
    place = min(3, len(entries) - 1)
    later: list[Any] = []
    entries[place] = irregularity.change(
        entries[place], ChangeContext(WORLD, later.append, 7)
    )
    raw = text_of(file, entries + later)

    found = entries_of(layout, raw)

    # Of equal names the last counts, so that the earlier one waits.
    superseded = irregularity.name.endswith("/key-twice")
    target = len(found) - 1 if later and not superseded else place
    if layout.newest_first:
        found.reverse()
    aside = [i for i, entry in enumerate(found) if entry.home.collection == QUARANTINE]
    expected = [target] if irregularity.expected is Expected.QUARANTINE else []
    assert len(found) == len(entries) + len(later)
    assert aside == expected
    assert all(found[i].home.record.code in CODES for i in aside)
    assert list(unequal(raw, rendered(layout, raw))) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_of_regular_records_comes_back_byte_for_byte(file: LegacyFile) -> None:
    raw = text_of(file, list(file.entries(WORLD, Random("regular"))))

    assert rendered(LAYOUT[file.name], raw) == raw


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.file)
def test_every_entry_says_where_its_own_bytes_stand(
    layout: RecordLayout, tmp_path: Path
) -> None:
    generate(tmp_path, users=60, irregular=0.5, seed=3)
    raw = (tmp_path / layout.file).read_bytes()
    parsed = layout.parse(SCHEMA, raw)

    for entry in parsed.entries:
        assert entry.span is not None
        text = raw[slice(*entry.span)]
        if entry.home.collection == QUARANTINE:
            assert text == entry.home.record.raw
        shown = layout.render_one(parsed.header, entry.home.record)
        frame = (b"[%b]", b"{%b}")[layout.shapes[0] == "map" and text[:1] == b'"']
        assert list(unequal(frame % text, frame % shown)) == []


def test_whole_directories_come_back_and_every_record_is_somewhere(
    tmp_path: Path,
) -> None:
    report = generate(tmp_path, users=300, events=900, irregular=0.5, seed=11)

    for layout in LAYOUTS:
        raw = (tmp_path / layout.file).read_bytes()
        found = entries_of(layout, raw)
        aside = Counter(e.home.collection for e in found)[QUARANTINE]
        assert len(found) == report.records[layout.file]
        assert aside == report.expected(layout.file, Expected.QUARANTINE)
        assert len({(e.home.collection, e.home.key) for e in found}) == len(found)
        assert list(unequal(raw, rendered(layout, raw))) == []


# -- damaged files ------------------------------------------------------------------


def damaged(tmp_path: Path, file: str, kind: Damage) -> bytes:
    generate(tmp_path, users=30, irregular=0, damage={file: kind})
    return (tmp_path / file).read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.file)
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Damage.ZEROS, {"wrong-shape"}),
        (Damage.OTHER_TOP, {"wrong-shape"}),
        (Damage.HALF_WRITTEN, {"half-written"}),
        (Damage.NOT_UTF8, {"not-utf8"}),
    ],
)
def test_a_broken_file_waits_as_a_whole(
    layout: RecordLayout, kind: Damage, code: set[str], tmp_path: Path
) -> None:
    raw = damaged(tmp_path, layout.file, kind)

    (entry,) = entries_of(layout, raw)

    assert is_whole_file(entry.home.record)
    assert entry.home.record.code in code
    assert entry.home.record.raw == raw
    assert rendered(layout, raw) == raw


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.file)
@pytest.mark.parametrize(
    "kind",
    [
        *(Damage.EMPTY, Damage.BARE_LIST, Damage.BARE_MAP, Damage.NO_RECORDS),
        *(Damage.BOM, Damage.CRLF, Damage.TABS, Damage.COMPACT),
        Damage.TRAILING_NEWLINE,
    ],
)
def test_another_manner_of_writing_is_understood_and_kept(
    layout: RecordLayout, kind: Damage, tmp_path: Path
) -> None:
    raw = damaged(tmp_path, layout.file, kind)

    found = entries_of(layout, raw)

    assert all(entry.home.collection != QUARANTINE for entry in found)
    assert rendered(layout, raw) == raw


WRAPPED_FILES = [layout for layout in LAYOUTS if layout.wrapper is not None]


@pytest.mark.parametrize("layout", WRAPPED_FILES, ids=lambda layout: layout.file)
@pytest.mark.parametrize("kind", [Damage.BARE, Damage.OTHER_MEMBERS])
def test_another_wrapper_is_understood_and_kept(
    layout: RecordLayout, kind: Damage, tmp_path: Path
) -> None:
    raw = damaged(tmp_path, layout.file, kind)

    found = entries_of(layout, raw)

    assert found
    assert all(entry.home.collection != QUARANTINE for entry in found)
    assert rendered(layout, raw) == raw


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.file)
@pytest.mark.parametrize("raw", [b"", b"\n", b"[]\n", b"{}\n", b"\xef\xbb\xbf{}"])
def test_an_empty_file_stays_as_it_is_until_there_is_a_record(
    layout: RecordLayout, raw: bytes
) -> None:
    header = layout.parse(SCHEMA, raw).header
    named = header.format["shape"] == "map"

    whole = b"".join(layout.assemble(header, [b'"a": 1' if named else b"1"]))

    records = json.loads(whole.decode("utf-8-sig"))
    if layout.wrapper is not None:
        assert records == {layout.wrapper: [1]}
    else:
        assert records == ({"a": 1} if named else [1])
    assert b"".join(layout.assemble(header, [])) == raw


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.file)
def test_a_new_file_is_written_as_the_server_writes_it(layout: RecordLayout) -> None:
    value: Any = {"a": [1, {"b": []}]}
    record = Document(file=layout.file, key="k", body=value)
    documents = RecordLayout(
        layout.file,
        DocumentMapping(layout.file),
        shapes=layout.shapes,
        wrapper=layout.wrapper,
    )

    header = documents.missing()
    texts = [documents.render_one(header, record)] * 2
    whole = b"".join(documents.assemble(header, texts))

    records: Any = {"k": value} if layout.shapes[0] == "map" else [value, value]
    held = {layout.wrapper: records} if layout.wrapper else records
    if layout.shapes[0] == "map":
        assert json.loads(whole) == held
    else:
        assert whole == json.dumps(held, indent=2).encode()
    empty: Any = {} if layout.shapes[0] == "map" else []
    held = {layout.wrapper: empty} if layout.wrapper else empty
    assert (
        b"".join(documents.assemble(header, [])) == json.dumps(held, indent=2).encode()
    )


def test_a_wrapped_file_without_its_list_gets_one_and_keeps_the_rest() -> None:
    layout = LAYOUT["admin-logs.json"]
    raw = b'{\n  "version": 1.50\n}'
    parsed = layout.parse(SCHEMA, raw)

    whole = b"".join(layout.assemble(parsed.header, [b"1", b"2"]))

    assert list(parsed.entries) == []
    assert json.loads(whole) == {"version": 1.5, "logs": [1, 2]}
    assert b"1.50" in whole
    assert rendered(layout, raw) == raw


@pytest.mark.parametrize("raw", [b'{"logs": null}', b'{"logs": [], "logs": {}}'])
def test_a_wrapper_whose_last_value_is_no_list_is_broken(raw: bytes) -> None:
    (entry,) = entries_of(LAYOUT["admin-logs.json"], raw)

    assert is_whole_file(entry.home.record)


def test_a_list_that_loses_its_records_is_printed_as_the_server_prints_it() -> None:
    layout = LAYOUT["admin-logs.json"]
    raw = json.dumps({"logs": [{"a": 1}], "v": 2}, indent=2).encode()
    header = layout.parse(SCHEMA, raw).header

    whole = b"".join(layout.assemble(header, []))

    assert whole == b'{\n  "logs": [],\n  "v": 2\n}'


# -- where things go ----------------------------------------------------------------


def test_a_wallet_becomes_a_user_and_a_profile() -> None:
    name, address = "AB" * 32, "0x" + "Cd" * 20
    raw = json.dumps({name: address}).encode()

    (entry,) = entries_of(LAYOUT["wallet-db.json"], raw)

    user = entry.home.record
    assert isinstance(user, User)
    assert (user.phone_hash, user.blockchain_address) == (HASH, ADDRESS)
    assert (user.legacy_key, user.legacy_value) == (name, address)
    assert (user.tier, user.status, user.created_at) == (0, "active", None)
    assert user.id == user_id_of(HASH)
    assert [put.record for put in entry.derived] == [UserProfile(user_id=user.id)]


def test_new_code_and_the_file_arrive_at_the_same_user() -> None:
    user = User(phone_hash=HASH, blockchain_address=ADDRESS)

    assert user.id == only("wallet-db.json", ADDRESS).id


def test_an_opportunity_fills_the_columns_and_keeps_what_they_cannot_say() -> None:
    asset = only(
        "admin-opportunities.json",
        {
            "id": 7,
            "contractAddress": "0x" + "CD" * 20,
            "type": "Interest-only",
            "title": "Olives",
            "status": "Completed",
            "createdAt": "2025-06-19T07:58:56Z",
            "tokenPrice": "1,250.50",
            "maxSupply": "100000000000000000000",
            "expectedROI": "9-13%",
            "lockupPeriod": "18 months",
            "deadline": 0,
            "jurisdiction": "Egypt",
            "raised": 1,
        },
    )

    assert isinstance(asset, Asset)
    assert (asset.legacy_id, asset.contract_address) == ("7", ADDRESS)
    assert (asset.type, asset.status, asset.category) == ("interest", "closed", None)
    assert str(asset.token_price) == "1250.50"
    assert asset.max_supply == 10**20
    assert (asset.expected_roi, asset.lockup_days, asset.deadline) == (None, None, None)
    assert asset.details == {"jurisdiction": "Egypt"}
    assert {n: asset.extra[n] for n in ("expectedROI", "deadline", "raised")} == {
        "expectedROI": "9-13%",
        "deadline": 0,
        "raised": 1,
    }


@pytest.mark.parametrize(
    ("ip", "address", "raw"),
    [
        ("203.0.113.9", "203.0.113.9", None),
        ("2001:DB8::1", "2001:db8::1", None),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7", None),
        ("203.0.113.9, 198.51.100.4", None, "203.0.113.9, 198.51.100.4"),
        ("fe80::1%eth0", None, "fe80::1%eth0"),
        ("", None, ""),
        (7, None, None),
    ],
)
def test_an_admin_log_tells_the_address_if_it_is_one(
    ip: object, address: str | None, raw: str | None
) -> None:
    log = only(
        "admin-logs.json",
        {
            "action": "UPDATE_OPPORTUNITY",
            "timestamp": TIME,
            "data": {"ip": ip, "id": 7, "contractAddress": ADDRESS},
        },
    )

    assert isinstance(log, AdminLog)
    assert (log.ip_address, log.ip_raw) == (address, raw)
    assert (log.resource_type, log.resource_id) == ("opportunity", ADDRESS)
    assert log.new_values == {"ip": ip, "id": 7, "contractAddress": ADDRESS}


def test_an_access_concerns_no_resource() -> None:
    log = only("admin-logs.json", {"action": "ADMIN_ACCESS", "timestamp": TIME})

    assert (log.resource_type, log.resource_id, log.new_values) == (None, None, None)


def test_a_time_that_cannot_be_rebuilt_is_kept_beside_it() -> None:
    spelled = "2025-06-19T07:58:56Z"

    log = only("admin-logs.json", {"action": "A", "timestamp": spelled})

    assert log.created_at.isoformat() == "2025-06-19T07:58:56+00:00"
    assert log.created_at_raw == spelled


def test_equal_logs_are_told_apart_by_their_number() -> None:
    item = {"action": "ADMIN_ACCESS", "timestamp": TIME}
    raw = json.dumps({"logs": [item, item]}).encode()

    first, second = (e.home.record for e in entries_of(LAYOUT["admin-logs.json"], raw))

    assert first.content_hash == second.content_hash
    assert (first.occurrence, second.occurrence) == (0, 1)
    assert first.id != second.id


def test_an_event_keeps_its_key_when_the_log_grows_at_the_front_and_is_trimmed() -> (
    None
):
    layout = LAYOUT["explorer-data/transactions-log.json"]
    log = [{"id": n, "type": "egp_minted", "timestamp": TIME} for n in (3, 2, 2, 1)]
    new = {"id": 4, "type": "egp_minted", "timestamp": TIME}

    before = [e.home.key for e in entries_of(layout, json.dumps(log).encode())]
    after = [
        e.home.key for e in entries_of(layout, json.dumps([new, *log[:-1]]).encode())
    ]

    assert after[:-1] == before[1:]
    assert len(set(after)) == len(after)


def test_an_event_refers_to_the_user_of_its_identity_and_keeps_every_spelling() -> None:
    event = only(
        "explorer-data/transactions-log.json",
        {
            "id": 12,
            "type": "harvest_invest",
            "timestamp": TIME,
            "identityHash": "AB" * 32,
            "walletAddress": ADDRESS,
            "poolId": "gold-vault",
            "amount": "100.0",
            "status": None,
            "phoneNumber": "+201000000042",
            "metadata": None,
        },
    )

    assert isinstance(event, BlockchainEvent)
    assert event.user_id == user_id_of(HASH)
    assert (event.legacy_id, event.identity_hash) == ("12", HASH)
    assert (event.amount, event.amount_raw) == (Decimal(100), "100.0")
    assert event.decoded_data == {"poolId": "gold-vault", "metadata": None}
    assert event.status is None
    assert event.extra == {
        "identityHash": "AB" * 32,
        "amount": "100.0",
        "status": None,
        "phoneNumber": "+201000000042",
    }


def test_the_collector_counts_in_wei_and_the_column_in_ether() -> None:
    event = only(
        "explorer-data/persistent-transactions.json",
        {"value": "1500000000000000001", "timestamp": 1750319936, "status": 1},
    )

    assert str(event.amount) == "1.500000000000000001"
    assert event.amount_raw == "1500000000000000001"
    assert (event.event_type, event.status) == ("transaction", "confirmed")
    assert event.timestamp.isoformat() == "2025-06-19T07:58:56+00:00"
    assert event.extra == {}


@pytest.mark.parametrize(
    ("written", "rendered"),
    [
        ("2025-06-19T07:58:56", b"1750319936"),
        ("2025-06-19T07:58:56.38", b'"2025-06-19T07:58:56.380Z"'),
        ("1970-01-01T00:00:01", b"1"),
        ("1970-01-01T00:00:00", b'"1970-01-01T00:00:00.000Z"'),
        ("0001-01-01T00:00:00", b'"0001-01-01T00:00:00.000Z"'),
        ("5138-11-16T09:46:39", b"99999999999"),
        ("5138-11-16T09:46:40", b'"5138-11-16T09:46:40.000Z"'),
        ("9999-12-31T23:59:59", b'"9999-12-31T23:59:59.000Z"'),
    ],
)
def test_a_time_that_the_collector_did_not_write_is_read_back(
    written: str, rendered: bytes
) -> None:
    layout = LAYOUT["explorer-data/persistent-transactions.json"]
    moment = datetime.fromisoformat(written).replace(tzinfo=UTC)
    event = only(layout.file, {"timestamp": 1750319936})

    raw = layout.render_one(layout.missing(), replace(event, timestamp=moment))

    assert b'"timestamp": ' + rendered in raw
    (entry,) = layout.parse(SCHEMA, b"[%b]" % raw).entries
    assert entry.home.record.timestamp == moment


def test_an_application_belongs_to_its_phone_hash_and_tells_the_profile() -> None:
    raw = json.dumps(
        {HASH: {"verificationStatus": "approve", "lastUpdated": TIME}}
    ).encode()

    (entry,) = entries_of(LAYOUT["uploads/kyc/metadata.json"], raw)

    application = entry.home.record
    assert isinstance(application, KycApplication)
    assert (application.status, application.documents) == ("verified", {})
    assert application.user_id == user_id_of(HASH)
    assert application.id == KycApplication(phone_hash=HASH).id
    (profile,) = (put.record for put in entry.derived)
    assert (profile.user_id, profile.kyc_status) == (application.user_id, "verified")


def test_a_later_application_with_an_id_of_its_own_is_not_in_the_file() -> None:
    layout = LAYOUT["uploads/kyc/metadata.json"]

    assert layout.owns(KycApplication(phone_hash=HASH))
    assert not layout.owns(KycApplication(phone_hash=HASH, id=user_id_of(HASH)))


def test_the_directory_stays_whole_and_tells_the_profile() -> None:
    value = {
        "identityHash": HASH,
        "address": ADDRESS,
        "maskedPhone": None,
        "phoneNumber": "+201000000042",
        "createdAt": TIME,
        "createdBlock": 44123,
        "creationTxHash": HASH,
        "egpBalance": "100.0",
        "identity": {"region": "EG"},
    }
    raw = json.dumps([value]).encode()

    (entry,) = entries_of(LAYOUT["explorer-data/wallets-directory.json"], raw)

    document = entry.home.record
    assert isinstance(document, Document)
    assert (document.key, document.body) == (None, value)
    (profile,) = (put.record for put in entry.derived)
    assert profile.user_id == user_id_of(HASH)
    assert profile.phone_number_masked == "+20100000****"
    assert profile.country_code == "EG"
    assert profile.wallet_created_block == 44123
    assert profile.balances == {"EGP": "100.0"}


def test_a_document_of_a_map_has_the_key_that_new_code_gives_it() -> None:
    found = only("admin-pool-tiers.json", 2, name="gold-vault")

    made = Document(file="admin-pool-tiers.json", key="gold-vault", body=2)
    assert (found.id, found.body) == (made.id, 2)


def test_events_of_the_chain_and_of_another_file_are_not_in_the_log() -> None:
    log = LAYOUT["explorer-data/transactions-log.json"]

    assert log.owns(BlockchainEvent(event_type="Transfer"))
    assert not log.owns(BlockchainEvent(event_type="Transfer", source="chain"))


def test_a_collision_is_quarantined_with_the_name_of_the_first() -> None:
    other = "0x" + "12" * 20
    raw = f'{{"{HASH}": "{ADDRESS}", "{HASH[2:].upper()}": "{other}"}}'.encode()

    first, second = entries_of(LAYOUT["wallet-db.json"], raw)

    assert first.home.record.blockchain_address == ADDRESS
    assert second.home.record.code == "key-taken"
    assert HASH in second.home.record.reason


def test_a_quarantined_record_can_be_tried_again() -> None:
    layout = LAYOUT["wallet-db.json"]
    good, bad = f'"{HASH}": "{ADDRESS}"', '"absent": 1'
    spelled = f'"{HASH[2:]}": "{ADDRESS}"'
    raw = f"{{{good}, {spelled}, {bad}}}".encode()
    _, twice, impossible = (e.home.record for e in entries_of(layout, raw))

    again = layout.retry(SCHEMA, twice)
    still = layout.retry(SCHEMA, impossible)

    assert again.home.record.blockchain_address == ADDRESS
    assert again.home.record.legacy_position == 1
    assert still.home.record.code == "bad-key"


def test_a_record_that_a_store_refuses_can_be_set_aside_whole() -> None:
    layout = LAYOUT["wallet-db.json"]
    raw = f'{{"{HASH[2:]}": "{ADDRESS}"}}'.encode()
    parsed = layout.parse(SCHEMA, raw)
    (entry,) = parsed.entries

    aside = layout.set_aside(SCHEMA, parsed.header, entry.home.record, "taken").record

    assert aside.raw == raw[1:-1]
    assert (aside.code, aside.position) == ("value-taken", 0)
    assert layout.retry(SCHEMA, aside).home.record == entry.home.record


def test_of_equal_member_names_the_last_is_the_record() -> None:
    layout = LAYOUT["admin-pool-tiers.json"]
    raw = rb'{"a": 1, "b": 2, "\u0061": 3, "": 4, "a": 5, "": 6}'

    found = [entry.home.record for entry in entries_of(layout, raw)]

    placed = {record.key: record.body for record in found if type(record) is Document}
    assert placed == json.loads(raw)
    aside = [r for r in found if type(r) is not Document]
    assert [(r.code, r.raw) for r in aside] == [
        ("superseded", b'"a": 1'),
        ("superseded", rb'"\u0061": 3'),
        ("superseded", b'"": 4'),
    ]
    assert not any(is_whole_file(record) for record in aside)
    assert [layout.retry(SCHEMA, r).home.record for r in aside] == aside
    assert rendered(layout, raw) == raw


def test_a_superseded_wallet_keeps_no_address_from_another() -> None:
    raw = (
        f'{{"{HASH}": "{ADDRESS}", "{"12" * 32}": "{ADDRESS}", "{HASH}": "{"1" * 40}"}}'
    )

    first, second, third = entries_of(LAYOUT["wallet-db.json"], raw.encode())

    assert first.home.record.code == "superseded"
    assert [e.home.collection for e in (second, third)] == ["users", "users"]


def test_a_member_twice_beside_a_list_of_records_waits_beside_it() -> None:
    layout = LAYOUT["admin-logs.json"]
    raw = b'{"": 0, "logs": [1, 2], "": 1, "logs": ["x"], "v": [3], "v": 4}'

    found = [entry.home.record for entry in entries_of(layout, raw)]

    beside, record = found[:-1], found[-1]
    assert record.raw == b'"x"'
    assert [(r.code, r.raw, r.position) for r in beside] == [
        ("superseded", b'"": 0', None),
        ("superseded", b'"logs": [1, 2]', None),
        ("superseded", b'"v": [3]', None),
    ]
    assert not any(is_whole_file(r) for r in beside)
    header = layout.parse(SCHEMA, raw).header
    assert b"".join(layout.assemble(header, [record.raw])) == raw


def test_a_superseded_member_stands_in_front_of_what_counts_at_its_place() -> None:
    layout = LAYOUT["admin-pool-tiers.json"]
    dead, live = (e.home.record for e in entries_of(layout, b'{"a": 1, "a": 2}'))

    assert layout.order(dead, 9) < layout.order(layout.placed(live, 0), 1)
