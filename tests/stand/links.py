"""Spellings of YouTube links."""


def spellings(identifier: str) -> list[str]:
    """Return 25 different links to one video."""
    hosts = ("www.youtube.com", "youtube.com", "m.youtube.com", "music.youtube.com")
    links = [f"https://{host}/watch?v={identifier}" for host in hosts]
    links += [f"https://{host}/watch?feature=share&v={identifier}&t=10s" for host in hosts]
    links += [f"https://www.youtube.com/{folder}/{identifier}" for folder in ("shorts", "embed", "live", "v")]
    links += [
        f"http://youtu.be/{identifier}",
        f"https://youtu.be/{identifier}?si=abc",
        f"HTTPS://YOUTU.BE/{identifier}",
    ]
    links += [f"https://www.youtube-nocookie.com/embed/{identifier}", f"https://www.youtube.com./watch?v={identifier}"]
    links += [f"https://www.youtube.com/watch?v={identifier}&list=RD{identifier}&index={n}" for n in range(8)]
    return links
