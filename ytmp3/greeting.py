"""The text on the terminal at the start: address, page, data folder, keys, an example, how to stop. Pure."""

import ipaddress
from pathlib import Path
from typing import Final

from ytmp3 import __version__
from ytmp3.config import Config

EXAMPLE_LINK: Final = "https://www.youtube.com/watch?v=aqz-KE-bpKQ"
"""A video under a free licence (Big Buck Bunny, CC BY 3.0)."""


def greeting(config: Config, url: str, *, free_bytes: int) -> str:
    """Return the text. The first line has the address."""
    keys, store = config.api_keys_file, "SQLite" if config.redis is None else "Redis"
    reach = "   (this machine only; HOST=0.0.0.0 opens it)" if _is_loopback(config.host) else ""
    return "\n".join(
        [
            f"ytmp3 {__version__} on {url}{reach}",
            *([f"  page   {url}/"] if config.http.page else []),
            f"  data   {_short(config.data_dir)}, {free_bytes // 10**9} GB free; jobs in {store}",
            f"  keys   {f'from {keys}' if keys else 'none: whoever reaches the port may convert'}",
            f"  try    {example_command(url)}",
            f"  stop   Ctrl-C: waits up to {config.drain_seconds:g} s for running conversions; again: at once",
        ]
    )


def example_command(url: str) -> str:
    """Return a command that converts the example's link with the service at `url`."""
    return f"curl {url}/extract -H 'Content-Type: application/json' -d '{{\"url\": \"{EXAMPLE_LINK}\"}}'"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _short(path: Path) -> str:
    """Return a path with the home folder as ~."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
