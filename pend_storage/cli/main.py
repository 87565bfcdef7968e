"""Entry point of ``pend-storage``; says what is missing where the extra is."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        from pend_storage.cli.app import run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write(
            "error: the command line needs the package click, which is not installed: "
            "pip install 'pend_storage[cli]'\n"
        )
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
