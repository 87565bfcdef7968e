"""In-memory tables: the rows that the JSON store and the memory store keep."""
