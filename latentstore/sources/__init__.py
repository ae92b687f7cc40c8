"""READ: where pictures come from."""
