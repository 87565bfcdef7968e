"""The Pend server: its collections, its legacy files and invented data for them."""
