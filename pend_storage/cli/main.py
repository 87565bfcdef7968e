"""Entry point of ``pend-storage``; without the packages of its extra, it names them."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        from pend_storage.cli._app import run
    except ModuleNotFoundError as error:
        from pend_storage._extras import missing_package

        missing = missing_package(error, user="the command line")
        if missing is None:
            raise
        sys.stderr.write(f"error: {missing}\n")
        sys.exit(2)
    from pend_storage.cli._tracebacks import show_tracebacks

    show_tracebacks()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
