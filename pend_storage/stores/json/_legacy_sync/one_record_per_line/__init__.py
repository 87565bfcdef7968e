"""The file format of collections without a legacy file: one record per line."""
