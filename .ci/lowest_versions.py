"""Print constraints that pin each dependency to the lowest version that is declared.

The dependencies of the package and of the extras that users install; the extras for those
who work on the project itself are not promised to anybody.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

USED = (
    "postgres",
    "cli",
    "redis",
    "backup",
    "backup-s3",
    "backup-encryption",
    "backup-schedule",
    "embedded",
    "testing",
    "examples",
)
BOUND = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*>=\s*([0-9][^,;\s]*)")


def main() -> None:
    """Print one line for each dependency."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(each for name in USED for each in extras[name]),
    ]
    for requirement in wanted:
        found = BOUND.match(requirement)
        if found is None:
            raise SystemExit(f"{requirement}: no lower bound; write NAME>=VERSION")
        print(f"{found[1]}=={found[2]}")


if __name__ == "__main__":
    main()
