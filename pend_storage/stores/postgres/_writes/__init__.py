"""The write path: commits, group commit, applies."""
