"""STORE: raw latents to the numbers on disk and back."""
