"""Storage backends, each in a module or package of its own that imports no other."""
