"""Modules that are called as the function of the same name.

``import pend_storage.records`` sets the attribute ``records`` of the package to the
module, whatever it was before. So that ``ps.records(...)`` works in every order of
imports, the module and the function are one object.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["CallableModule"]


class CallableModule(ModuleType):
    """Module whose call is the call of its ``__wrapped__`` function.

    ``inspect.signature`` follows that name, as it does for decorated functions.
    """

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of the module's name."""
        return self.__wrapped__(*args, **kwargs)
