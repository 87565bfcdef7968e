"""In-memory tables: the rows of the JSON store and of the memory store."""
