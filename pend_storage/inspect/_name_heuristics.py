"""Name heuristics: distinguish data from field names, and recognise times and secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from pend_storage._shown import one_line

__all__ = [
    "class_name",
    "data_share",
    "is_amount_name",
    "is_sensitive_name",
    "is_time_name",
    "name_text",
    "settings_share",
    "singular",
    "snake",
    "words",
]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_A-Za-z]+")
_FIELD: Final = re.compile(r"[A-Za-z_$][A-Za-z_]{0,39}[0-9]{0,2}").fullmatch
_DATA: Final = re.compile(
    r"""
      [0-9]+                                   # a number: ids of Discord, years
    | (0x)?[0-9a-fA-F]{16,}                    # a hash
    | [0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}
    | .*[@/ ,].*                               # mail, paths, words with spaces
    | \+?[0-9][0-9 ()\-]{5,}                   # a telephone number
    | [0-9]{4}-[0-9]{2}(-[0-9]{2})?.*          # a day
    | .*[^\x00-\x7f].*
    """,
    re.VERBOSE | re.DOTALL,
).fullmatch
_PERHAPS: Final = re.compile(
    r"(?=.*[-:.])[\w.:-]+|[A-Za-z_]+[0-9]{3,}|(?=.*[0-9])[A-Za-z0-9]{8,}"
).fullmatch
_SETTINGS: Final = frozenset(
    """
    api app auth cache channel client color config cors count data database db debug
    default description email enabled env features host http https imap key lang language
    last level limit limits locale log logging mail max meta metadata min mode name next
    options password path port prefix production proxy redis retries role server session
    settings smtp ssl staging stats status storage system theme timeout timezone title
    tls token total type ui updated url user username version
    """.split()  # noqa: SIM905 - with one word a line it would fill pages
)
_TIME: Final = frozenset(
    """
    at created date day deadline end ended expire expires expiry last modified registered
    seen since start started time timestamp ts until updated when
    """.split()  # noqa: SIM905 - with one word a line it would fill pages
)
_AMOUNT: Final = frozenset(
    """
    amount balance cap cost credit debit deposit fee invested investment paid payment
    price profit sum supply value volume wei
    """.split()  # noqa: SIM905 - with one word a line it would fill pages
)
_STORES: Final = frozenset({"data", "database", "db", "json", "list", "map", "store"})
"""Last words of file names that do not describe the records."""
_SENSITIVE_ANYWHERE: Final = frozenset(
    """
    apikey cvv email emails iban mail mobile passphrase passwd password passwords phone
    phones pin pwd secret secrets ssn telephone whatsapp
    """.split()  # noqa: SIM905 - with one word a line it would fill pages
)
_SENSITIVE_LAST: Final = frozenset(
    {"credential", "jwt", "otp", "tel", "token", "tokens"}
)
_SENSITIVE_PAIRS: Final = frozenset(
    {
        ("access", "key"),
        ("api", "key"),
        ("card", "number"),
        ("pass", "word"),
        ("private", "key"),
        ("secret", "key"),
        ("session", "id"),
    }
)


def name_text(text: str, most: int = 60) -> str:
    """Render a name for output: cut, and without characters that control a terminal."""
    return one_line(text, most)


def words(name: str) -> list[str]:
    """Split a name into words in lower case: ``createdAt`` into ``created`` and ``at``."""
    return [word.lower() for word in _WORD.findall(name)]


def data_share(names: Iterable[str]) -> float:
    """Estimate the share of names that are data: 1 for hashes, 0 for names of fields."""
    weights = [
        1.0
        if _DATA(name)
        else 0.6
        if _PERHAPS(name)
        else 0.0
        if _FIELD(name) or not name
        else 0.8
        for name in names
    ]
    return sum(weights) / len(weights) if weights else 0.0


def settings_share(names: Iterable[str]) -> float:
    """Return the share of names with a word that is usual in names of settings."""
    found = [not _SETTINGS.isdisjoint(words(name)) for name in names]
    return sum(found) / len(found) if found else 0.0


def is_time_name(name: str) -> bool:
    """Return whether a name is one of times."""
    found = words(name)
    return bool(found) and (found[-1] in _TIME or found[0] in {"last", "expires", "ts"})


def is_amount_name(name: str) -> bool:
    """Return whether a name is one of amounts, of money or of tokens."""
    return not _AMOUNT.isdisjoint(words(name)[-2:])


def is_sensitive_name(name: str) -> bool:
    """Return whether a name hints at values that no report may contain."""
    found = words(name)
    if not found:
        return False
    return (
        not _SENSITIVE_ANYWHERE.isdisjoint(found)
        or found[-1] in _SENSITIVE_LAST
        or not _SENSITIVE_PAIRS.isdisjoint(pairwise(found))
    )


def snake(name: str, most: int = 50) -> str:
    """Convert a name to snake case; ``field`` where it has no letters."""
    ascii_words = [w for w in words(name) if w.isascii()]
    text = "_".join(ascii_words)[:most].strip("_") or "field"
    return text if text[0].isalpha() else f"field_{text}"


def singular(name: str) -> str:
    """Return the singular of a collection's name: ``user`` of ``users``."""
    for ending, instead, least in (
        ("ies", "y", 5),
        ("sses", "ss", 5),
        ("xes", "x", 4),
        ("ches", "ch", 5),
        ("shes", "sh", 5),
    ):
        if name.endswith(ending) and len(name) >= least:
            return name.removesuffix(ending) + instead
    if name.endswith("s") and not name.endswith(("ss", "us", "is")) and len(name) > 3:  # noqa: PLR2004 - gas
        return name[:-1]
    return name


def class_name(name: str) -> str:
    """Return the class name for the records of a collection: ``AdminLog``, ``admin_logs``."""
    found = snake(name).split("_")
    while len(found) > 1 and found[-1] in _STORES:
        found.pop()
    *rest, last = found
    return "".join(word.capitalize() for word in (*rest, singular(last)))
