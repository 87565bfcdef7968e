"""Shape inference: guess the arrangement of the records in a file.

An object is either a map, whose member names are data, or it has fields. JSON does not
distinguish them: names, sizes and the similarity of the values do, each with a weight. The
sum is a logit, so that several weak signs make a strong one, and a few members never do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pend_storage.inspect._model import Guess, Shape
from pend_storage.inspect._name_heuristics import data_share, settings_share
from pend_storage.inspect._outline import Item, Outline
from pend_storage.legacy._scan import BrokenFileError

__all__ = ["Place", "guesses_of", "likeness", "places_of"]

_FEW: Final = 3
_MANY: Final = 20
_DOUBTFUL: Final = 0.8
"""Bound of the logit where there are less than a few members: 69 percent."""
_MOST_PARTS: Final = 40
_HALF: Final = 0.5
_ALIKE: Final = 0.85
"""Share of the values that must have one type, so that they are similar."""


@dataclass(frozen=True, slots=True)
class Place:
    """Place of records in a file."""

    path: tuple[str, ...]
    shape: Shape
    start: int


def guesses_of(top: Outline) -> list[Guess]:
    """List the shapes that a file may have, the most likely first."""
    if not top.count:
        return [Guess(Shape.EMPTY, 1.0)]
    if top.is_list:
        objects = top.kinds()["object"] / len(top.items)
        found = {Shape.LIST: objects, Shape.SCALARS: 1.0 - objects}
    else:
        found = _object_shapes(top)
    ranked = sorted(found.items(), key=lambda pair: -pair[1])
    return [Guess(shape, round(share, 2)) for shape, share in ranked if share >= 0.005]  # noqa: PLR2004 - it would be shown as 0


def _object_shapes(top: Outline) -> dict[Shape, float]:
    sure = _sigmoid(_map_signs(top))
    nested = sure * _nested_maps(top)
    found = {Shape.MAP: sure - nested, Shape.MAP_OF_MAPS: nested}
    parts = list(_collections(top))
    if not parts:
        return found | {Shape.OBJECT: 1.0 - sure}
    share = max(weight for _, _, weight in parts)
    if len(parts) > 1:
        other = Shape.COLLECTIONS
    elif parts[0][1] is Shape.LIST:
        other = Shape.WRAPPED_LIST
    else:
        other = Shape.WRAPPED_MAP
    return found | {
        other: (1.0 - sure) * share,
        Shape.OBJECT: (1.0 - sure) * (1 - share),
    }


def places_of(top: Outline, shape: Shape) -> list[Place]:
    """List the places of the records in a file of this shape."""
    if shape in {Shape.LIST, Shape.SCALARS, Shape.MAP, Shape.MAP_OF_MAPS, Shape.OBJECT}:
        return [Place((), shape, top.start)]
    if shape not in {Shape.WRAPPED_LIST, Shape.WRAPPED_MAP, Shape.COLLECTIONS}:
        return []
    found = [
        Place((str(item.name),), inner, item.start)
        for item, inner, _ in _collections(top)
    ]
    if shape is Shape.COLLECTIONS:
        return found
    wanted = Shape.LIST if shape is Shape.WRAPPED_LIST else Shape.MAP
    fitting = [place for place in found if place.shape is wanted]
    if not fitting:  # the shape was given by --set: take the first member of its kind
        kind = "list" if wanted is Shape.LIST else "object"
        fitting = [
            Place((str(item.name),), wanted, item.start)
            for item in top.items
            if item.kind == kind
        ]
    return fitting[:1]


def likeness(sets: list[frozenset[str]]) -> float:
    """Return the similarity of objects by their member names, from 0 to 1."""
    counted = Counter(name for names in sets for name in names)
    usual = {name for name, n in counted.items() if 2 * n >= len(sets)}
    shares = [
        len(names & usual) / len(names | usual) if names or usual else 1.0
        for names in sets
    ]
    return sum(shares) / len(shares) if shares else 0.0


def _sigmoid(weight: float) -> float:
    return 1.0 / (1.0 + math.exp(-weight))


def _map_signs(top: Outline) -> float:
    """Return the logit of an object being a map."""
    names = top.names()
    data = data_share(names)
    weight = 4.0 * data - 1.0 + _size_sign(top.count) + _value_sign(top)
    if top.count < _MANY:
        weight -= 2.0 * settings_share(names)
    # A member that holds records speaks for fields, more than all other signs for a map.
    if data < _HALF and (sure := _surest_collection(top)):
        return min(weight, 0.0) - 3.0 * sure
    if top.count < _FEW and data < _HALF:
        return max(-_DOUBTFUL, min(_DOUBTFUL, weight))
    return weight


def _surest_collection(top: Outline) -> float:
    """Return the confidence that a member is a list of records, or a map by its names."""
    if top.count > _MOST_PARTS:
        return 0.0
    found = [0.0]
    for item in top.items:
        inner = _readable(top, item) if item.kind in {"list", "object"} else None
        if inner is None or not inner.count:
            continue
        is_map = data_share(inner.names()) >= _HALF
        if inner.is_list or is_map:
            found.append(_objects_share(inner))
    return max(found)


def _size_sign(count: int) -> float:
    for least, weight in ((200, 4.0), (50, 3.0), (20, 1.5), (8, 0.5), (_FEW, 0.0)):
        if count >= least:
            return weight
    return -0.5


def _value_sign(top: Outline) -> float:
    """Weigh the similarity of the values: those of a map are similar."""
    kinds = top.kinds()
    kind, count = kinds.most_common(1)[0]
    if count < _ALIKE * len(top.items):
        return -3.0
    if kind == "object":
        sets = [top.member_names(item) for item in top.items if item.kind == kind]
        if top.count == 1:
            return 0.0
        if data_share(frozenset().union(*sets)) >= _HALF:
            return 1.0  # the values are maps, whose names differ
        alike = likeness(sets)
        return -2.0 + 5.0 * alike if alike < 0.8 else 2.0  # noqa: PLR2004 - a slope, then level
    if kind == "list":
        return _list_sign(top)
    return {"number": 1.0, "bool": 0.5, "text": 0.5}.get(kind, -1.0)


def _list_sign(top: Outline) -> float:
    """Weigh an object of lists: similar ones are values of a map, others collections."""
    objects = [
        names
        for item in top.items
        if item.kind == "list" and (names := _usual_names(top, item))
    ]
    if not objects:
        return 0.0
    return -2.5 + 3.5 * likeness(objects)


def _usual_names(top: Outline, item: Item) -> frozenset[str]:
    inner = top.inner(item)
    first = [i for i in inner.items if i.kind == "object"][:1]
    return inner.member_names(first[0]) if first else frozenset()


def _objects_share(inner: Outline) -> float:
    return inner.kinds()["object"] / len(inner.items) if inner.items else 0.0


def _nested_maps(top: Outline) -> float:
    """Return the confidence that the values of a map are maps of records."""
    chosen = [item for item in top.items if item.kind == "object"][:32]
    inner = [
        found for item in chosen if (found := _readable(top, item)) and found.count
    ]
    if len(inner) < _HALF * len(top.items[:32]) or not inner:
        return 0.0
    names = [frozenset(found.names()) for found in inner]
    data = data_share(frozenset().union(*names))
    if data < _HALF < likeness(names):
        return 0.05  # names that every value has are fields
    objects = sum(_objects_share(found) for found in inner) / len(inner)
    if max(data, objects) < _HALF:
        return 0.05
    return sum(_sigmoid(_map_signs(found)) for found in inner) / len(inner)


def _readable(top: Outline, item: Item) -> Outline | None:
    try:
        return top.inner(item)
    except BrokenFileError:
        return None


def _collections(top: Outline) -> Iterator[tuple[Item, Shape, float]]:
    """Yield the members that are collections, with their shapes and confidences."""
    if top.count > _MOST_PARTS:
        return
    for item in top.items:
        if item.kind not in {"list", "object"}:
            continue
        inner = _readable(top, item)
        if inner is None or not inner.count:
            continue
        if inner.is_list:
            share = _objects_share(inner)
            if share >= _HALF:
                yield item, Shape.LIST, share
            continue
        objects = _objects_share(inner)
        sure = _sigmoid(_map_signs(inner))
        if objects >= _HALF and sure >= _HALF:
            yield item, Shape.MAP, sure
