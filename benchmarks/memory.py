"""Peak memory of one contender, in a process of its own.

``python -m benchmarks.memory WORKBENCH CASE CONTENDER`` prints the resident memory
before anything was prepared, and the most there was until one slice had run.
"""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.case import Case, Contender
from benchmarks.workbench import Workbench

__all__ = ["Memory", "measure_memory"]

_KIB_PER_MIB: Final = 1024
_BYTES_PER_MIB: Final = 2**20
_STATUS: Final = Path("/proc/self/status")


class Memory(msgspec.Struct, frozen=True):
    """Resident memory of a process in MiB."""

    start: float
    peak: float


def measure_memory(bench: Workbench, case: Case, contender: Contender) -> Memory:
    """Run a contender once, in a new process.

    Raises:
        RuntimeError: it failed; what it said is in the message.
    """
    command = [sys.executable, "-m", "benchmarks.memory", bench.to_json()]
    done = subprocess.run(
        [*command, case.name, contender.name],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    if done.returncode:
        raise RuntimeError(f"{case.name}, {contender.name}: {done.stderr}")
    return msgspec.json.decode(done.stdout, type=Memory)


def _peak() -> float:
    """The most resident memory this process has had, in MiB.

    Linux keeps ``ru_maxrss`` across ``exec``, so that a child would begin with the peak
    of its parent; ``VmHWM`` is the process's own.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / _KIB_PER_MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (_BYTES_PER_MIB if sys.platform == "darwin" else _KIB_PER_MIB)


def _main(workbench: str, case_name: str, contender_name: str) -> None:
    from benchmarks.cases import CASES  # noqa: PLC0415 - only the child needs them all

    logging.getLogger("pend_storage").setLevel(logging.ERROR)
    bench = Workbench.from_json(workbench)
    case = next(case for case in CASES if case.name == case_name)
    contender = next(each for each in case.contenders if each.name == contender_name)
    opened = case.opened(contender, bench)
    start = _peak()
    with opened as run:
        run()
        peak = _peak()
    sys.stdout.write(msgspec.json.encode(Memory(start, peak)).decode())


if __name__ == "__main__":
    _main(*sys.argv[1:])
