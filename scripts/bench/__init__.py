"""Benches: ratios against ffmpeg, the yt-dlp command and a bare aiohttp handler, measured in pairs in one run."""
