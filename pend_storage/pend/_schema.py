"""Schema of the Pend server: unique fields, references and indexes.

The indexes serve the queries of the admin panel, the wallet and the explorer: own
transactions newest first, the KYC queue oldest first, lists by type and status, parts
of titles, addresses and masked telephone numbers.
"""

from __future__ import annotations

from typing import Final

from pend_storage.legacy._document_files import DOCUMENTS
from pend_storage.pend.records import (
    AdminLog,
    Asset,
    BlockchainEvent,
    Investment,
    KycApplication,
    User,
    UserProfile,
)
from pend_storage.schema import Schema, collection

__all__ = ["SCHEMA"]

SCHEMA: Final = Schema(
    (
        collection(
            "users",
            User,
            unique=["phone_hash", "blockchain_address"],
            indexes=[["-created_at"], ["tier", "status"]],
            search=["blockchain_address"],
        ),
        collection(
            "user_profiles",
            UserProfile,
            key="user_id",
            references={"user_id": "users"},
            indexes=[["kyc_status"], ["-last_activity_at"]],
            search=["phone_number_masked"],
        ),
        collection(
            "assets",
            Asset,
            unique=["contract_address", "legacy_id"],
            references={"created_by": "users"},
            indexes=[
                ["type", "status"],
                ["category", "status"],
                ["-created_at"],
                ["-total_invested"],
                ["-investor_count"],
            ],
            search=["title", "description", "category"],
        ),
        collection(
            "blockchain_events",
            BlockchainEvent,
            unique=[
                ["transaction_hash", "log_index"],
                ["source", "content_hash", "occurrence"],
            ],
            references={"user_id": "users"},
            indexes=[
                ["-timestamp"],
                ["event_type", "-timestamp"],
                ["identity_hash", "-timestamp"],
                ["wallet_address", "-timestamp"],
                ["from_address", "-timestamp"],
                ["to_address", "-timestamp"],
                ["contract_address", "event_type", "-timestamp"],
                ["processed", "-timestamp"],
                ["block_number"],
                ["transaction_hash"],
                ["source", "-legacy_position"],
            ],
        ),
        collection(
            "investments",
            Investment,
            unique=[["transaction_hash", "asset_id"]],
            references={
                "user_id": "users",
                "asset_id": "assets",
                "source_event_id": "blockchain_events",
            },
            indexes=[
                ["user_id", "status"],
                ["asset_id", "status"],
                ["status", "-invested_at"],
                ["-invested_at"],
            ],
        ),
        collection(
            "kyc_applications",
            KycApplication,
            references={"user_id": "users"},
            indexes=[
                ["status", "submitted_at"],
                ["status", "updated_at"],
                ["phone_hash"],
                ["verified_by"],
            ],
        ),
        collection(
            "admin_logs",
            AdminLog,
            unique=[["content_hash", "occurrence"]],
            indexes=[
                ["-created_at"],
                ["admin_id", "-created_at"],
                ["action", "-created_at"],
                ["resource_type", "resource_id"],
            ],
        ),
        DOCUMENTS,
    )
)
