"""Compares the libraries of the console's page with the npm registry; `--write` copies them.

Needs `npm`, and access to the registry. The tests compare the recorded hashes alone.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "pend_storage" / "console" / "static" / "vendor"
LIST = VENDOR / "vendor.json"


def contents(package: str, version: str) -> dict[str, bytes]:
    """Return the files of a published package, by path."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            ["npm", "pack", "--silent", f"{package}@{version}"],  # noqa: S607 - on the path
            cwd=scratch,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (archive,) = Path(scratch).iterdir()
        with tarfile.open(archive) as packed:
            found = {
                member.name.partition("/")[2]: packed.extractfile(member)
                for member in packed.getmembers()
                if member.isfile()
            }
            return {name: file.read() for name, file in found.items() if file}


def main() -> int:
    """Compare, or write; 1 where a file differs."""
    listed = json.loads(LIST.read_text())
    differing = []
    for package, facts in listed.items():
        published = contents(package, facts["version"])
        for name, file in facts["files"].items():
            content = published[file["path"]]
            digest = hashlib.sha256(content).hexdigest()
            if "--write" in sys.argv:
                (VENDOR / name).write_bytes(content)
                file["sha256"] = digest
            elif digest != file["sha256"] or content != (VENDOR / name).read_bytes():
                differing.append(f"{name} is not {file['path']} of {package}")
    if "--write" in sys.argv:
        LIST.write_text(json.dumps(listed, indent=2) + "\n")
    print(*differing or ["the libraries of the page are those of npm"], sep="\n")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
