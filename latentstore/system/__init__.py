"""What is asked of this machine: paths that others wrote, and files that are whole or not there."""
