"""Legacy layouts: the interface between stores and the legacy files of a server. No I/O."""
