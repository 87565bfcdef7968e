"""Run bandit, and fail on each finding that `.ci/bandit.toml` does not explain."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

CHECKED = ("pend_storage", "docs/examples", "benchmarks", ".ci")


def main() -> int:
    """Print what is not explained, and explanations that nothing needs; 1 if any."""
    bandit = Path(sys.executable).with_name("bandit")
    done = subprocess.run(
        [bandit, "--quiet", "--recursive", "--format", "json", *CHECKED],
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        raise SystemExit(done.stderr)
    report = json.loads(done.stdout)
    explained = tomllib.loads(Path(".ci/bandit.toml").read_text())["explained"]
    needed: set[str] = set()
    wrong = [str(error) for error in report["errors"]]
    for finding in report["results"]:
        entry = next((each for each in explained if _covers(each, finding)), None)
        if entry is None:
            place = f"{finding['filename']}:{finding['line_number']}"
            wrong.append(f"{place}: {finding['test_id']} {finding['issue_text']}")
        else:
            needed.add(entry["test"])
    wrong += [
        f".ci/bandit.toml: {each['test']} explains no finding"
        for each in explained
        if each["test"] not in needed
    ]
    print(
        "\n".join(wrong) or f"bandit: {len(report['results'])} findings, all explained"
    )
    return bool(wrong)


def _covers(entry: dict[str, Any], finding: dict[str, Any]) -> bool:
    path = Path(finding["filename"])
    return entry["test"] == finding["test_id"] and any(
        path.is_relative_to(each) for each in entry["under"]
    )


if __name__ == "__main__":
    sys.exit(main())
