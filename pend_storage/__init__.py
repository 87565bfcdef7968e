"""Move a live server from JSON files to PostgreSQL and back, with nothing lost."""
