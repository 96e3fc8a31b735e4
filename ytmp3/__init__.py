"""ytmp3: a self-hosted service that turns a YouTube link into a verified MP3 file."""

__version__ = "0.2.0"
