"""The composition root: settings in, stores out. Nothing else knows both."""

from pend_storage.factory.checks import ENVIRONMENT_META, MIGRATION_META
from pend_storage.factory.dualwrite import DualWriteStore
from pend_storage.factory.pair import ConfiguredPair, open_pair
from pend_storage.factory.schema_module import SchemaModule, load_schema
from pend_storage.factory.sides import open_json, open_postgres, require_directory
from pend_storage.factory.stores import OWN_FOLDER, has_begun, open_primary, open_store

__all__ = [
    "ENVIRONMENT_META",
    "MIGRATION_META",
    "OWN_FOLDER",
    "ConfiguredPair",
    "DualWriteStore",
    "SchemaModule",
    "has_begun",
    "load_schema",
    "open_json",
    "open_pair",
    "open_postgres",
    "open_primary",
    "open_store",
    "require_directory",
]
