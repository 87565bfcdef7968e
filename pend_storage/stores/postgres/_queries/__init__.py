"""SQL statements of reads, and the decoding of their results.

``statements``: fixed statements, prepared once on each connection.
``conditions``: WHERE and ORDER BY of a query, with bound parameters.
``prepared_queries``: queries by shape, prepared once they are frequent.
``rows``: rows and change log entries decoded from results.
"""
