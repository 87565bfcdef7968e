"""``uploads/kyc/metadata.json``: KYC applications by phone hash."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from typing_extensions import override

from pend_storage.legacy._convert import json_object, text, words
from pend_storage.legacy._exact_json import UnreadableError
from pend_storage.legacy._mapping import Derived, Reads, Source
from pend_storage.legacy._members import Member, ObjectMapping, time_member
from pend_storage.pend._files.wallets import hash_of_name, spelled_name
from pend_storage.pend._identity import record_id, user_id_of
from pend_storage.pend.records import KycApplication, UserProfile

__all__ = ["FILE", "KycMapping"]

FILE: Final = "uploads/kyc/metadata.json"

_STATUS: Final = words(
    {
        "pending_review": "pending_review",
        "under_review": "under_review",
        "in_review": "under_review",
        "verified": "verified",
        "approved": "verified",
        "approve": "verified",
        "rejected": "rejected",
        "reject": "rejected",
    },
    otherwise="pending_review",
)


class KycMapping(ObjectMapping):
    """Mapping of KYC applications; the profile's status is derived from them."""

    collection = "kyc_applications"
    record_type: ClassVar[type[Any]] = KycApplication
    members: ClassVar[tuple[Member, ...]] = (
        Member("verificationStatus", "status", _STATUS),
        time_member("lastUpdated", "updated_at", required=True),
        Member("documents", "documents", json_object, blank={}),
        time_member("verifiedAt", "reviewed_at"),
        Member("rejectionReason", "rejection_reason", text),
    )
    computed: ClassVar[tuple[str, ...]] = ("phone_hash", "legacy_key")

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        phone_hash = hash_of_name(source.name)
        columns["id"] = _key_of(phone_hash)
        columns["phone_hash"] = phone_hash
        columns["legacy_key"] = source.name
        columns["user_id"] = user_id_of(phone_hash)

    @override
    def name(self, record: KycApplication) -> str:
        return spelled_name(record.legacy_key, record.phone_hash)

    @override
    def identity(self, record: KycApplication) -> str:
        return record.phone_hash

    @override
    def owns(self, record: KycApplication) -> bool:
        return record.id == _key_of(record.phone_hash)

    @override
    def find(self, reads: Reads, name: str) -> KycApplication | None:
        try:
            key = _key_of(hash_of_name(name))
        except UnreadableError:
            return None
        found: KycApplication | None = reads.collection(self.collection).get(key)
        return found

    @override
    def born(self, record: KycApplication) -> Any:
        return record.submitted_at or record.updated_at

    @override
    def derive(self, record: KycApplication, value: Any) -> Iterable[Derived]:
        profile = UserProfile(
            user_id=user_id_of(record.phone_hash), kyc_status=record.status
        )
        return (("user_profiles", profile),)


def _key_of(phone_hash: str) -> str:
    return record_id("kyc_applications", phone_hash)
