"""Collection: its operations, and the function that declares one.

The module can be called, as ``ps.collection(...)``: see
:func:`~pend_storage.schema.collection`.
"""

from __future__ import annotations

import sys

from pend_storage._callable_module import CallableModule
from pend_storage._collection import Collection
from pend_storage.schema import collection

__all__ = ["Collection", "collection"]

__wrapped__ = collection
sys.modules[__name__].__class__ = CallableModule
