"""SHELVE: rows to shard files and back."""
