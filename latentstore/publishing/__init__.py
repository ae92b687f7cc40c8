"""Publishing: a sealed repository's way to the Hub or another place, back again, and out of it."""
