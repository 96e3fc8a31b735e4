"""Encoding, verification and tagging of audio files. This code runs in the server; ffmpeg runs in a child process."""
