"""ENCODE and decode: the VAEs."""
