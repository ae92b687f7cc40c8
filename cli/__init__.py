"""The command line of latentstore: click commands around the library's functions, and nothing else.

Results go to stdout; progress, notes and errors to stderr. Exit codes: 0 ok, 1 failed, 2 the command line cannot be
understood, 130 stopped from the keyboard.
"""
