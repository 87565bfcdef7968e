"""Errors of the client of a bucket, translated into errors of the library.

The client has few classes of errors; the code and the status that the server has answered
are in their texts.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pend_storage._extras import with_packages
from pend_storage._shown import one_line
from pend_storage.errors import ConfigError, StoreUnavailable

with with_packages(user="a backup repository in a bucket"):
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
        UnknownConfigurationKeyError,
    )

__all__ = ["explained"]

_CODE: Final = re.compile(r"<Code>\s*(\w{1,64})\s*</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_DENIED_CODES: Final = frozenset(
    [
        "AccessDenied",
        "AllAccessDisabled",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    ]
)
_DENIED: Final = frozenset(["401", "403"])
_METADATA: Final = "169.254."
"""Address of the service that has the credentials of a machine of Amazon's."""
_MOST: Final = 240


@contextmanager
def explained(url: str, name: str = "", *, writes: bool = False) -> Iterator[None]:
    """Translate errors of the client that the block raises.

    Args:
        url: of the repository.
        name: of the object, if it is about one.
        writes: the outcome of a request without an answer is not known.
    """
    place = f"{url}/{name}" if name else url
    try:
        yield
    except FileNotFoundError as error:
        denied = _refused(error, url, place)
        missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)
        raise denied or missing from error
    except (AlreadyExistsError, PreconditionError) as error:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place) from error
    except BaseError as error:
        denied = _refused(error, url, place)
        if denied is not None:
            raise denied from error
        text = str(error)
        reason = f"{_code(text)} {_beginning(text)}".strip()
        raise StoreUnavailable(reason, store=place, outcome_known=not writes) from error


def _refused(error: Exception, url: str, place: str) -> ConfigError | None:
    """Return the error of what a person has to correct; None for any other one."""
    text = str(error)
    code, status = _code(text), (_STATUS.search(text) or ("", ""))[1]
    if code == "NoSuchBucket":
        return ConfigError(
            f"there is no bucket at {url}. Create it, or correct the address."
        )
    if isinstance(error, UnknownConfigurationKeyError) or "Missing" in text[:40]:
        return ConfigError(
            f"{url}: a setting of the client is wrong or missing "
            f"({_beginning(text)}). Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_REGION."
        )
    if _METADATA in text:
        return ConfigError(
            f"{url}: there are no credentials. Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give this machine a role."
        )
    kinds = (PermissionDeniedError, UnauthenticatedError)
    if isinstance(error, kinds) or status in _DENIED or code in _DENIED_CODES:
        return ConfigError(
            f"{place}: the server refuses it ({code or status}). Correct credentials and "
            "clock, or let them get, put, list and delete objects there."
        )
    return None


def _code(text: str) -> str:
    """Return the code of the server's answer, such as ``SlowDown``."""
    found = _CODE.search(text)
    return found[1] if found else ""


def _beginning(text: str) -> str:
    """Return the first sentence of the client, without the answer of the server."""
    first = text.partition("\n")[0].partition("<?xml")[0].partition("Debug source")[0]
    return one_line(first.strip(" :"), _MOST)
