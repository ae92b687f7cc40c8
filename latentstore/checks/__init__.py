"""The checks of `verify`: what each looks at, and what it finds wrong."""
