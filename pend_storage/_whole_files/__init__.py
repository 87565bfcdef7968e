"""Whole files as plain data: load, save, edit, update, exclusive use, three-way merge."""
