"""Legacy files that have no table of their own: each record is kept as it is."""

from pend_storage.legacy._document_files import DocumentMapping

__all__ = ["DocumentMapping"]
