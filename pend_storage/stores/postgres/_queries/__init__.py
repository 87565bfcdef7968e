"""SQL statements: reads, filters, and rows decoded from results."""
