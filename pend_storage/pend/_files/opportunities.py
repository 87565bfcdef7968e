"""``admin-opportunities.json``: assets, which are the investment opportunities."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from typing_extensions import override

from pend_storage.legacy._convert import (
    amount,
    amount_text,
    hex_text,
    integer,
    json_object,
    number_of,
    number_of_text,
    text,
    text_of,
    words,
)
from pend_storage.legacy._mapping import Groups, Source
from pend_storage.legacy._members import Member, ObjectMapping, inside, time_member
from pend_storage.pend._identity import record_id
from pend_storage.pend.records import Asset

__all__ = ["FILE", "WRAPPER", "OpportunityMapping"]

FILE: Final = "admin-opportunities.json"
WRAPPER: Final = "opportunities"

_TYPE: Final = words(
    {
        "investment": "investment",
        "interest": "interest",
        "interest_only": "interest",
        # How a tender is made up, not what is bought: kept beside the column.
        "solo": "investment",
        "bundle": "investment",
    },
    otherwise="investment",
)
_STATUS: Final = words(
    {
        "active": "active",
        "approved": "active",
        "published": "active",
        "paused": "paused",
        "inactive": "paused",
        "closed": "closed",
        "completed": "closed",
        "draft": "draft",
    },
    # An unknown status must not put an asset on offer.
    otherwise="draft",
)


class OpportunityMapping(ObjectMapping):
    """Mapping of assets, identified by ``id``, else contract address, else content."""

    collection = "assets"
    record_type: ClassVar[type[Any]] = Asset
    guarded: ClassVar[Groups] = (("contract_address",), ("legacy_id",))
    members: ClassVar[tuple[Member, ...]] = (
        Member("id", "legacy_id", text_of, number_of_text),
        Member("contractAddress", "contract_address", hex_text(40)),
        Member("type", "type", _TYPE),
        Member("title", "title", text, required=True),
        Member("description", "description", text),
        Member("category", "category", text),
        Member("status", "status", _STATUS),
        time_member("createdAt", "created_at"),
        time_member("updatedAt", "updated_at"),
        Member("tokenSymbol", "token_symbol", text),
        Member("tokenPrice", "token_price", amount, amount_text),
        Member("maxSupply", "max_supply", amount, amount_text),
        Member("expectedROI", "expected_roi", amount, number_of),
        Member("lockupPeriod", "lockup_days", integer),
        Member("minimumInvestment", "minimum_investment", amount, amount_text),
        Member("softCap", "soft_cap", amount, number_of),
        time_member("deadline", "deadline"),
        *inside("details", "contactFormat", "contactValue"),
        Member("totalInvested", "total_invested", amount, number_of),
        Member("investorCount", "investor_count", integer),
        Member("interestedCount", "interested_count", integer),
        Member("location", "location", text),
        Member("image", "image_url", text),
        *inside("details", "jurisdiction", "spvName", "custodyType"),
        Member("minTierRequired", "min_tier_required", integer),
        *inside(
            "details",
            "legalDocuments",
            "agreementUrl",
            "agreementHash",
            "assetManager",
            "assetManagerProfile",
        ),
        Member("metadata", "metadata", json_object, blank={}),
    )

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        legacy_id = columns.get("legacy_id")
        contract = columns.get("contract_address")
        if legacy_id is not None:
            columns["id"] = record_id("assets", "id", legacy_id)
        elif contract is not None:
            columns["id"] = record_id("assets", "contract", contract)
        else:
            place = (source.digest, str(source.occurrence))
            columns["id"] = record_id("assets", "content", *place)

    @override
    def identity(self, record: Asset) -> str:
        if record.legacy_id is not None:
            return f"id {record.legacy_id}"
        if record.contract_address is not None:
            return f"contract {record.contract_address}"
        return super().identity(record)
