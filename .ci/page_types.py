"""Checks the types of the console's page with TypeScript; needs `npx`, else it says so.

The page's modules are copied beside declarations of its libraries, which the registry's
files do not have.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
STATIC = HERE.parent / "pend_storage" / "console" / "static"
TYPESCRIPT = "typescript@7.0.2"


def main() -> int:
    """Return the exit code of the compiler."""
    npx = shutil.which("npx")
    if npx is None:
        print("npx is not installed: the page's types are not checked", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(HERE / "page", scratch, dirs_exist_ok=True)
        for pattern in ("*.js", "*.d.ts"):
            for module in STATIC.glob(pattern):
                shutil.copy(module, scratch)
        done = subprocess.run(
            [npx, "--yes", "-p", TYPESCRIPT, "tsc", "-p", "jsconfig.json"],
            cwd=scratch,
            check=False,
        )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
