"""`python -m ytmp3` is the command `ytmp3`."""

from ytmp3.cli import main

main()
