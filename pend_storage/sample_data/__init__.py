"""Invented data of a Pend server, of any size and with any share of irregularities.

``generate`` writes every legacy JSON file of a server; ``IRREGULARITIES`` tells what
may be wrong with a record and ``Damage`` what may be wrong with a file. All hashes,
addresses, phone numbers and names are made up.
"""

from pend_storage.sample_data.damage import Damage
from pend_storage.sample_data.irregular import (
    IRREGULARITIES,
    Expected,
    Irregularity,
)
from pend_storage.sample_data.writer import (
    FILES,
    Occurrence,
    SampleReport,
    generate,
)

__all__ = [
    "FILES",
    "IRREGULARITIES",
    "Damage",
    "Expected",
    "Irregularity",
    "Occurrence",
    "SampleReport",
    "generate",
]
