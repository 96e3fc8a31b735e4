"""Encoding, verification and tagging of the audio file, in the server process; ffmpeg itself runs in a child."""
