"""The backends, each in a module or package of its own that knows no other."""
