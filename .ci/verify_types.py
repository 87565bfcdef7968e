"""Check that every public symbol has a known type: ``basedpyright --verifytypes``.

Run it with the interpreter of the environment in which the package and basedpyright are
installed. Modules whose name begins with an underscore are private. Prints the score and
each symbol whose type is unknown, or could be inferred differently by another type
checker; exits with 1 where there is one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGE = "pend_storage"
_IN_DOCSTRINGS = "No docstring found"
_EXPLAINED = {
    # Its base class is of `openfeature`, a namespace package: its `py.typed` is not seen.
    "pend_storage.flags.PendProvider",
    "pend_storage.flags.openfeature.PendProvider",
}


def main() -> int:
    """Run basedpyright and report."""
    programs = Path(sys.executable).parent
    command = [str(programs / "basedpyright"), "--verifytypes", _PACKAGE]
    # It asks the first python of PATH where packages are, whatever --pythonpath says.
    path = os.pathsep.join((str(programs), os.environ.get("PATH", "")))
    done = subprocess.run(
        [*command, "--ignoreexternal", "--outputjson"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    try:
        found = json.loads(done.stdout)["typeCompleteness"]
    except ValueError:
        print(done.stdout, done.stderr, file=sys.stderr)
        return 2
    counts = found["exportedSymbolCounts"]
    unknown = [
        symbol
        for symbol in found["symbols"]
        if symbol["isExported"]
        and not symbol["isTypeKnown"]
        and symbol["name"] not in _EXPLAINED
    ]
    for symbol in unknown:
        print(f"{symbol['name']}: {_reason(symbol)}")
    known, total = counts["withKnownType"], sum(counts.values())
    print(f"types known of {known} of {total} public symbols: {_percent(known, total)}")
    return 0 if total and not unknown else 1


def _reason(symbol: dict[str, Any]) -> str:
    texts = (diagnostic["message"] for diagnostic in symbol["diagnostics"])
    return next((" ".join(t.split()) for t in texts if _IN_DOCSTRINGS not in t), "")


def _percent(known: int, total: int) -> str:
    return f"{100 * known / total:.1f} %" if total else "none found"


if __name__ == "__main__":
    sys.exit(main())
