"""Composition root: settings in, stores out. No other package knows both."""

from pend_storage.factory._pair import ConfiguredPair, DualWriteStore, open_pair
from pend_storage.factory._passive import (
    PassiveEnvironment,
    has_begun,
    open_passive,
    open_passive_json,
)
from pend_storage.factory._schema_module import (
    SchemaModule,
    load_schema,
    schema_module_files,
)
from pend_storage.factory._sides import (
    ENVIRONMENT_META,
    MIGRATION_META,
    archive_hold,
    kept_files,
    open_json,
    open_postgres,
    require_directory,
    unclaimed_files,
)
from pend_storage.factory._stores import open_primary, open_store

__all__ = [
    "ENVIRONMENT_META",
    "MIGRATION_META",
    "ConfiguredPair",
    "DualWriteStore",
    "PassiveEnvironment",
    "SchemaModule",
    "archive_hold",
    "has_begun",
    "kept_files",
    "load_schema",
    "open_json",
    "open_pair",
    "open_passive",
    "open_passive_json",
    "open_postgres",
    "open_primary",
    "open_store",
    "require_directory",
    "schema_module_files",
    "unclaimed_files",
]
