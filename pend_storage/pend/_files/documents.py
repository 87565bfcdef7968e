"""Legacy files without a table of their own: each record is stored as a document."""

from pend_storage.legacy._document_files import DocumentMapping

__all__ = ["DocumentMapping"]
