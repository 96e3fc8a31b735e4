"""YouTube's player script: which ones are served, what they compute, and their JavaScript.

YouTube scrambles the signature of a media link and its `n` parameter; the player script undoes that. yt-dlp finds the
two functions in the script and runs them with deno. This package makes scripts in which it really has to do so.
"""

from .ciphers import Flavour, Player
from .script import script_of

__all__ = ["Flavour", "Player", "script_of"]
