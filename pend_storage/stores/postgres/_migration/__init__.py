"""Schema migration: brings a database to the declared schema."""
