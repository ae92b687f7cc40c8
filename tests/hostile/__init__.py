"""Everything that a stranger can write, against every command: see ``matrix.py``."""
