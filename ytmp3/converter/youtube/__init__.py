"""Extraction and download through yt-dlp, in a forked child process.

`fetch`, `events` and `messages` are also used by the server process; it never imports a module that loads yt-dlp.
"""
