"""SQL text of the functions that run inside the database."""
