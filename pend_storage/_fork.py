"""Fork callbacks: a forked child first forgets the threads of its parent.

One handler of the system calls every callback, in the order in which they were
registered, so that a store begins anew before what was built on it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from types import MethodType
from typing import Any, Final, TypeAlias

__all__ = ["on_fork"]

Callback: TypeAlias = Callable[[], object]

_callbacks: Final[dict[int, Callable[[], Callback | None]]] = {}
"""By the order of registration. Each returns the callback, or None if it is gone.

There is no lock, which another thread might hold while this one forks: every access is
one step of the interpreter."""
_numbers: Final = count()


def on_fork(callback: Callback) -> None:
    """Register a callback for every child that this process forks.

    Where the system cannot fork, it is never called.

    Args:
        callback: a function, or a method of an object. The object is held weakly: its
            registration ends with it.
    """
    number = next(_numbers)
    if isinstance(callback, MethodType):
        # It is called with the dead reference, which is the default of pop. No Python code
        # runs then: the exception of a signal's handler would be lost in it, and at the
        # end of the interpreter what it needs may be gone (as of weakref.WeakMethod).
        forget = partial(_callbacks.pop, number)
        owner = weakref.ref(callback.__self__, forget)
        _callbacks[number] = partial(_method_of, owner, callback.__func__)
    else:
        _callbacks[number] = lambda: callback


def _method_of(
    owner: weakref.ref[Any], function: Callable[..., Any]
) -> Callback | None:
    found = owner()
    return None if found is None else MethodType(function, found)


def _run_in_child() -> None:
    # One that fails does not stop the others; the system shows what it raised.
    with ExitStack() as stack:
        for find in reversed(_callbacks.copy().values()):
            if (callback := find()) is not None:
                stack.callback(callback)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run_in_child)
