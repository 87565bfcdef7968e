"""Column statistics: types, formats, range and uniqueness of the values of one member.

Values come in batches, and each step is one call for a whole batch: a loop over every
value would take ten times as long. Values are not kept, except for texts that are few.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, Final

from pend_storage.inspect._model import FieldReport
from pend_storage.inspect._name_heuristics import (
    is_amount_name,
    is_sensitive_name,
    is_time_name,
    words,
)
from pend_storage.inspect._text_formats import SENSITIVE_FORMATS, format_of
from pend_storage.legacy._exact_json import ExactFloat

__all__ = ["Column"]

_MOST_TRACKED: Final = 1 << 20
"""Values of a column that are counted as distinct; of later ones only the types are."""
_MOST_AT_ONCE: Final = 1 << 15
_MOST_CHOICES: Final = 20
_LONGEST_CHOICE: Final = 60
_TIMES_AS_MANY: Final = 10
"""Records for each different text, so that the texts count as choices."""
_NEARLY_ALL: Final = 0.95
_SENSITIVE_FROM: Final = 0.1
_SECONDS: Final = (946_684_800, 4_102_444_800)
"""Unix times of the years 2000 and 2100."""
_INT64: Final = range(-(2**63), 2**63)
_NAMES: Final = {
    str: "text",
    bool: "bool",
    int: "integer",
    float: "number",
    ExactFloat: "number",
    dict: "object",
    list: "list",
}
_CODES: Final = frozenset(
    {"code", "id", "ids", "no", "number", "pin", "version", "zip"}
)
"""Last words of the names of members whose digits are no amounts."""


class Column:
    """Statistics of the values of one member."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.present = 0
        self.kinds: Counter[str] = Counter()
        self.nulls = 0
        self.large = 0
        """Integers beyond 64 bits."""
        self._tracked = array("q")
        self._formats: Counter[str] = Counter()
        self._choices: set[str] | None = set()
        self._texts = 0
        self._low: int | float | None = None
        self._high: int | float | None = None
        self._shortest: int | None = None
        self._longest: int | None = None

    def add(self, values: list[Any]) -> None:
        """Add the values of a batch of records."""
        if not values:
            return
        self.present += len(values)
        kinds = Counter(map(type, values))
        self.nulls += kinds.pop(type(None), 0)
        for kind, count in kinds.items():
            self.kinds[_NAMES[kind]] += count
        whole = len(kinds) == 1 and not self._has_nulls(values, kinds)
        for kind in kinds:
            chosen: list[Any] = (
                values if whole else [v for v in values if type(v) is kind]
            )
            if kind is str:
                self._add_texts(chosen)
            elif kind is int:
                self._add_integers(chosen)
            elif kind in {float, ExactFloat}:
                self._bound(min(chosen), max(chosen))
            elif kind in {dict, list}:
                self._measure(chosen)

    @staticmethod
    def _has_nulls(values: list[Any], kinds: Counter[type]) -> bool:
        return len(values) != kinds.total()

    def _add_texts(self, texts: list[str]) -> None:
        self._texts += len(texts)
        self._measure(texts)
        counted = Counter(texts)
        for text, count in counted.items():
            found = format_of(text)
            if found is not None:
                self._formats[found] += count
        if len(self._tracked) < _MOST_TRACKED:
            # 8 bytes for each text, whatever its length; collisions are negligible here.
            self._tracked.extend(map(hash, texts))
        if self._choices is not None:
            self._choices |= counted.keys()
            too_long = any(len(text) > _LONGEST_CHOICE for text in counted)
            if too_long or len(self._choices) > _MOST_CHOICES:
                self._choices = None

    def _add_integers(self, numbers: list[int]) -> None:
        low, high = min(numbers), max(numbers)
        self._bound(low, high)
        if low not in _INT64 or high not in _INT64:
            self.large += sum(number not in _INT64 for number in numbers)
            numbers = [n if n in _INT64 else hash(n) for n in numbers]
        if len(self._tracked) < _MOST_TRACKED:
            self._tracked.extend(numbers)

    def _bound(self, low: float, high: float) -> None:
        self._low = low if self._low is None else min(self._low, low)
        self._high = high if self._high is None else max(self._high, high)

    def _measure(self, values: list[Any]) -> None:
        sizes = [*map(len, values)]
        low, high = min(sizes), max(sizes)
        self._shortest = low if self._shortest is None else min(self._shortest, low)
        self._longest = high if self._longest is None else max(self._longest, high)

    # -- outcome ----------------------------------------------------------------------

    @property
    def tracked(self) -> array[int]:
        """Tracked values as numbers: integers themselves, texts by their hash."""
        return self._tracked

    @property
    def filled(self) -> int:
        """Records that have a value which is not null."""
        return self.present - self.nulls

    def report(self) -> FieldReport:
        """Report on the column, without values of a sensitive one."""
        distinct = _distinct(self._tracked)
        exact = len(self._tracked) < _MOST_TRACKED
        sensitive = self._is_sensitive()
        return FieldReport(
            name=self.name,
            present=self.present,
            nulls=self.nulls,
            types=self._types(),
            distinct=distinct,
            distinct_is_exact=exact,
            low=None if sensitive else self._low,
            high=None if sensitive else self._high,
            shortest=self._shortest,
            longest=self._longest,
            format=self._format(),
            choices=() if sensitive else self._choice_texts(),
            is_sensitive=sensitive,
            is_unique=self._is_unique(distinct),
        )

    def _types(self) -> tuple[tuple[str, float], ...]:
        kinds = Counter(self.kinds)
        if kinds["number"] and kinds["integer"]:  # JSON has one kind of number
            kinds["number"] += kinds.pop("integer")
        ranked = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
        total = kinds.total()
        return tuple((kind, count / total) for kind, count in ranked if count)

    def _is_sensitive(self) -> bool:
        if is_sensitive_name(self.name) and set(self.kinds) != {"bool"}:
            return True
        return self._sensitive_texts() >= max(1, _SENSITIVE_FROM * self._texts)

    def _sensitive_texts(self) -> int:
        return sum(self._formats[name] for name in SENSITIVE_FORMATS)

    def _is_unique(self, distinct: int) -> bool:
        trackable = self.kinds["text"] + self.kinds["integer"]
        return 1 < trackable == self.filled == len(self._tracked) == distinct

    def _choice_texts(self) -> tuple[str, ...]:
        if self._sensitive_texts() or not self._choices:
            return ()
        if len(self._choices) * _TIMES_AS_MANY > self._texts:
            return ()
        return tuple(sorted(self._choices)) if len(self._choices) > 1 else ()

    def _format(self) -> str | None:
        if self.kinds["integer"] == self.filled > 0:
            return self._number_format()
        if not self._texts or self._texts < _NEARLY_ALL * self.filled:
            return None
        whole, part = self._formats["integer"], self._formats["decimal"]
        if whole + part >= _NEARLY_ALL * self._texts:
            return self._digits_format(has_parts=part > 0)
        for name, count in self._formats.most_common(1):
            if count >= _NEARLY_ALL * self._texts:
                return name
        return None

    def _digits_format(self, *, has_parts: bool) -> str:
        """Return the format of texts of digits: numbers of something, or amounts."""
        found = words(self.name)
        if found and found[-1] in _CODES:
            return "digits"
        return "amount" if has_parts or is_amount_name(self.name) else "digits"

    def _number_format(self) -> str | None:
        # The range alone proves nothing: an id may lie in it as well.
        if self._low is None or self._high is None or not is_time_name(self.name):
            return None
        low, high = _SECONDS
        if low <= self._low and self._high <= high:
            return "seconds"
        if low * 1_000 <= self._low and self._high <= high * 1_000:
            return "milliseconds"
        return None


def _distinct(values: array[int]) -> int:
    """Count the different values, without a set of all of them."""
    if len(values) < _MOST_AT_ONCE:
        return len(set(values))
    # Equal values fall into the same share, so the counts of the shares add up; one set
    # at a time bounds the memory.
    shares = [array("q") for _ in range(-(-len(values) // _MOST_AT_ONCE) * 2)]
    count = len(shares)
    for value in values:
        shares[value % count].append(value)
    return sum(len(set(share)) for share in shares)
