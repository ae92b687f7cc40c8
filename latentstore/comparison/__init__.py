"""compare(): several VAEs on the same pictures, in one table, and its figures."""
