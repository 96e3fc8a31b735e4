"""ytmp3: a YouTube link becomes a verified MP3: fast, once, and never lost."""

__version__ = "0.1.0"
