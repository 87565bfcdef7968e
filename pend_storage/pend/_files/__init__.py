"""One module for each legacy file of the Pend server: what its records become."""
