"""Who runs the workers of a build, and where."""
