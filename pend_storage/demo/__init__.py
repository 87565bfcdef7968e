"""Demo: a whole migration and back, under the load of clients that never stop.

Production never imports this package.
"""

from pend_storage.demo._command import demo

__all__ = ["demo"]
