"""Validation: two stores compared record by record, and legacy files rendered from one."""

from pend_storage.validation._compare_stores import validate
from pend_storage.validation._render_check import render_check
from pend_storage.validation.report import (
    CollectionCheck,
    Divergence,
    FileCheck,
    FileDifference,
    ValidationReport,
)

__all__ = [
    "CollectionCheck",
    "Divergence",
    "FileCheck",
    "FileDifference",
    "ValidationReport",
    "render_check",
    "validate",
]
