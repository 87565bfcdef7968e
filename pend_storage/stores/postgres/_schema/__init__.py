"""The declared tables: columns, literals, record JSON."""
