"""Connections to one server: address, libpq, errors, pool, wire format.

``address``: connection settings parsed from a URL, checked offline.
``own_names``: schema of the store's tables and functions, in SQL text.
``connector``: opens connections with session settings and retries.
``tls``: TLS settings that a server on another machine is connected to with.
``sessions``: connections of commands that look at a server.
``connect_errors``: messages of refused connections, mapped to advice.
``connection``: statements over libpq, with a bound on every wait.
``server_facts``: identity and state of the server behind a connection.
``server_errors``: SQLSTATEs mapped to the errors of the library.
``server_messages``: reasons and SQLSTATEs, derived from the text of messages.
``wire_format``: parameters and binary arrays in PostgreSQL's protocol.
``pool``: LIFO pool without locks, safe across forks and signals.
"""
