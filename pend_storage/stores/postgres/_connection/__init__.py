"""Connections to one server: address, libpq, errors, pool, wire format."""
