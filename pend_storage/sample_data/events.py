"""Entries of ``explorer-data/transactions-log.json``: wallets, consents, money."""

from bisect import bisect
from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Final, TypeAlias

from pend_storage.sample_data.node_json import Record
from pend_storage.sample_data.world import World

_Maker: TypeAlias = Callable[[World, Random, int, int], Record]
"""Called with the world, a random generator, the event's and the user's number."""

_CONSENT_TIERS: Final = tuple(accumulate((45, 38, 42, 23, 8)))
"""Cumulative consents of tiers 1 to 5, as documented; 156 in all."""
_LEVELS: Final = ("basic", "enhanced", "verified", "premium", "geo-verified")
_ACTIONS: Final = (
    "register_phone",
    "register_device",
    "verify_biometric",
    "submit_kyc",
    "verify_location",
    "wallet_creation",
    "invest_harvest_pool",
    "send_tokens",
    "invest_in_opportunity",
    "redeem_asset_tokens",
)
_PAYMENTS: Final = (
    "bank_transfer",
    "apple_pay",
    "google_pay",
    "coinbase_pay",
    "binance_pay",
    "card_payment",
    "mobile_wallet",
    "insta_pay",
)


def event(world: World, rng: Random, number: int) -> Record:
    """Build the entry with a number; users act only after their wallet was created."""
    user = world.newborn(number)
    if user is not None:
        return _wallet_creation(world, rng, number, user)
    # The square favours users who have been registered for long.
    user = int(rng.random() ** 2 * world.population(number))
    return _MAKERS[bisect(_WEIGHTS, rng.random())](world, rng, number, user)


def _head(world: World, number: int, user: int, kind: str) -> Record:
    return {
        "id": number,
        "type": kind,
        "timestamp": world.time(number),
        "identityHash": world.identity(user),
        "walletAddress": world.wallet(user),
    }


def _chain(world: World, number: int) -> Record:
    return {
        "txHash": world.transaction(number),
        "blockNumber": world.block(number),
        "status": "confirmed",
    }


def _whole(rng: Random, most: int) -> str:
    return str(10 * (1 + int(rng.random() * (most // 10))))


def _wallet_creation(world: World, _: Random, number: int, user: int) -> Record:
    return {
        **_head(world, number, user, "wallet_creation"),
        **_chain(world, number),
        "phoneNumber": world.masked_phone(user),
        "metadata": {"description": "Wallet created", "tags": ["wallet", "onboarding"]},
    }


def _consent(world: World, rng: Random, number: int, user: int) -> Record:
    tier = 1 + bisect(_CONSENT_TIERS, rng.random() * _CONSENT_TIERS[-1])
    action = _ACTIONS[int(rng.random() * len(_ACTIONS))]
    return {
        **_head(world, number, user, "consent_signature"),
        "subType": action,
        **_chain(world, number),
        "phoneNumber": world.masked_phone(user),
        "action": action,
        "consentTier": tier,
        "consentType": "phone_otp" if tier == 1 else "biometric",
        "consentLevel": _LEVELS[tier - 1],
        "location": "Egypt",
        "biometricUsed": tier > 1,
        "deviceFingerprint": "mobile",
        "metadata": {
            "description": f"Consent for {action}",
            "tags": ["consent", f"tier-{tier}"],
            "trustScore": min(100, 20 * tier),
            "complianceFlags": ["FRA"],
            "fraCompliant": True,
        },
    }


def _minted(world: World, rng: Random, number: int, user: int) -> Record:
    return {
        **_head(world, number, user, "egp_minted"),
        "walletAddress": None if rng.random() < 0.2 else world.wallet(user),
        "amount": _whole(rng, 5_000),
        **_chain(world, number),
    }


def _harvest(kind: str) -> _Maker:
    def make(world: World, rng: Random, number: int, user: int) -> Record:
        return {
            **_head(world, number, user, kind),
            "poolId": world.asset_id(0),
            "amount": _whole(rng, 2_000),
            "currency": "EGP",
            **_chain(world, number),
        }

    return make


def _opportunity(world: World, rng: Random, number: int, user: int) -> Record:
    asset = int(rng.random() * world.assets)
    return {
        **_head(world, number, user, "opportunity_investment"),
        "opportunityId": world.asset_id(asset),
        "contractAddress": world.contract(asset),
        "amount": _whole(rng, 20_000),
        "currency": "EGP",
        "paymentMethod": _PAYMENTS[int(rng.random() * len(_PAYMENTS))],
        **_chain(world, number),
        "metadata": {"tags": ["investment", world.asset_id(asset)]},
    }


def _transfer(kind: str) -> _Maker:
    def make(world: World, rng: Random, number: int, user: int) -> Record:
        sender = int(rng.random() * world.population(number))
        return {
            **_head(world, number, user, kind),
            "senderWalletAddress": world.wallet(sender),
            "amount": f"{1 + int(rng.random() * 99_999) / 100:.2f}",
            **_chain(world, number),
        }

    return make


def _deposit(world: World, rng: Random, number: int, user: int) -> Record:
    return {
        **_head(world, number, user, "deposit"),
        "amount": _whole(rng, 10_000),
        "currency": "EGP",
        "paymentMethod": _PAYMENTS[int(rng.random() * len(_PAYMENTS))],
        "status": ("pending", "approved", "failed")[int(rng.random() * 3)],
    }


def _profit(world: World, rng: Random, number: int, user: int) -> Record:
    return {
        **_head(world, number, user, "pool_profit"),
        "poolId": world.asset_id(0),
        "amount": f"{rng.random() * 900:.5f}",
        **_chain(world, number),
    }


def _pin(world: World, _: Random, number: int, user: int) -> Record:
    return {
        **_head(world, number, user, "pin_set"),
        "subType": "fra_knowledge_factor_setup",
        **_chain(world, number),
        "metadata": {
            "description": "PIN set",
            "tags": ["pin", "security"],
            "fraCompliant": True,
        },
    }


def _terms(world: World, _: Random, number: int, user: int) -> Record:
    return {
        **_head(world, number, user, "terms_acceptance"),
        "subType": "wallet_creation_terms",
        **_chain(world, number),
        "metadata": {
            "termsVersion": "1.0",
            "complianceFlags": ["FRA", "GDPR"],
            "legallyBinding": True,
        },
    }


_KINDS: Final[tuple[tuple[int, _Maker], ...]] = (
    (32, _consent),
    (20, _minted),
    (14, _harvest("harvest_invest")),
    (5, _harvest("harvest_redeem")),
    (8, _opportunity),
    (7, _transfer("token_transfer")),
    (4, _transfer("egp_sent")),
    (4, _deposit),
    (2, _profit),
    (2, _pin),
    (2, _terms),
)
_MAKERS: Final = tuple(maker for _, maker in _KINDS)
_WEIGHTS: Final = tuple(
    total / 100 for total in accumulate(share for share, _ in _KINDS[:-1])
)
"""Cumulative shares of all kinds but the last, out of 1."""
