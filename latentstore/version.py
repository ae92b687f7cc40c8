"""The version of this library; of the format on disk see ``manifest.FORMAT_VERSION``."""

__version__ = "0.1.0"
