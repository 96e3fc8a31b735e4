"""Asking YouTube through yt-dlp, in a forked child; `fetch` is the end of it that runs in the server process."""
