"""Fields of user types: dataclasses, msgspec Structs, attrs classes, pydantic models.

attrs and pydantic are optional and never imported here: their classes describe themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple, get_type_hints

import msgspec

from pend_storage.errors import ConfigError

__all__ = [
    "ABSENT",
    "UserField",
    "from_plain",
    "is_class_of_fields",
    "to_plain",
    "user_fields",
]

ABSENT: Final[Any] = ...
"""Sentinel for a missing default."""


class UserField(NamedTuple):
    """Field of a user's type."""

    name: str
    hint: Any
    default: Any = ABSENT
    factory: Callable[[], Any] | None = None
    member: str | None = None
    """Member name that the type itself declares for JSON, where it differs."""


def user_fields(record_type: type) -> tuple[UserField, ...]:
    """Return the constructor fields of a user's type, in order.

    Raises:
        ConfigError: the type is of no supported kind.
    """
    if not is_class_of_fields(record_type):
        raise ConfigError(
            f"{getattr(record_type, '__qualname__', record_type)} is not a type whose "
            "records can be stored: declare a dataclass, a msgspec.Struct, an attrs class "
            "or a pydantic model."
        )
    if dataclasses.is_dataclass(record_type):
        return _of_dataclass(record_type)
    if issubclass(record_type, msgspec.Struct):
        return _of_struct(record_type)
    if hasattr(record_type, "__attrs_attrs__"):
        return _of_attrs(record_type)
    return _of_pydantic(record_type)


def is_class_of_fields(hint: Any) -> bool:
    """Return whether an annotation is a class that :func:`user_fields` supports."""
    return isinstance(hint, type) and (
        dataclasses.is_dataclass(hint)
        or issubclass(hint, msgspec.Struct)
        or hasattr(hint, "__attrs_attrs__")
        or hasattr(hint, "model_fields")
    )


def _of_dataclass(record_type: type) -> tuple[UserField, ...]:
    hints = get_type_hints(record_type, include_extras=True)
    return tuple(
        UserField(
            f.name,
            hints[f.name],
            ABSENT if f.default is dataclasses.MISSING else f.default,
            None if f.default_factory is dataclasses.MISSING else f.default_factory,
        )
        for f in dataclasses.fields(record_type)
        if f.init
    )


def _of_struct(record_type: type[msgspec.Struct]) -> tuple[UserField, ...]:
    none = msgspec.NODEFAULT
    return tuple(
        UserField(
            f.name,
            f.type,
            ABSENT if f.default is none else f.default,
            None if f.default_factory is none else f.default_factory,
            f.encode_name,
        )
        for f in msgspec.structs.fields(record_type)
    )


def _of_attrs(record_type: Any) -> tuple[UserField, ...]:
    hints = get_type_hints(record_type, include_extras=True)
    found = []
    for attribute in record_type.__attrs_attrs__:
        default, factory = attribute.default, None
        if type(default).__name__ == "_Nothing":
            default = ABSENT
        elif hasattr(default, "takes_self"):
            if default.takes_self:
                raise ConfigError(
                    f"{record_type.__qualname__}.{attribute.name}: a default made from the "
                    "record itself is not supported. Give a plain default."
                )
            default, factory = ABSENT, default.factory
        if attribute.init:
            name = attribute.name
            found.append(UserField(name, hints.get(name, Any), default, factory))
    return tuple(found)


def _of_pydantic(record_type: Any) -> tuple[UserField, ...]:
    found = []
    for name, info in record_type.model_fields.items():
        hint = info.annotation
        for limit in info.metadata:
            hint = Annotated[hint, limit]
        default: Any = ABSENT
        if info.default_factory is None and not info.is_required():
            default = info.default
        found.append(
            UserField(name, hint, default, info.default_factory, info.alias or name)
        )
    return tuple(found)


def to_plain(value: Any) -> Any:
    """Convert a value of a user's type to JSON."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_dump_model)


def from_plain(value: Any, hint: Any) -> Any:
    """Convert JSON to a value of an annotation's type.

    Raises:
        ValueError: the JSON does not fit the annotation.
    """
    return msgspec.convert(value, hint, str_keys=True, dec_hook=_load_model)


def _dump_model(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"{type(value).__qualname__} cannot be stored as JSON")


def _load_model(hint: type, value: Any) -> Any:
    validate = getattr(hint, "model_validate", None)
    if validate is None:
        raise TypeError(f"{hint!r} cannot be read from JSON")
    return validate(value)
