"""The part of the table of environment variables (`variables`) that is about the way to YouTube."""

from typing import Final

from ytmp3.core.release import NIGHTLY, STABLE
from ytmp3.core.rollout import OFF
from ytmp3.setting_files import certificates, cookies, file
from ytmp3.setting_forms import (
    Variable,
    address,
    extractor_arguments,
    integer_within,
    one_of,
    plain_url,
    player_clients,
    proxy,
    video_links,
)

YOUTUBE_VARIABLES: Final[tuple[Variable, ...]] = (
    Variable(
        name="EGRESS_PROXY",
        default="",
        form="a http://, socks5:// or socks5h:// URL",
        meaning="Proxy for all traffic to YouTube.",
        parse=proxy,
    ),
    Variable(
        name="EGRESS_VIDEOS_PER_HOUR",
        default="240",
        form="an integer from 0 to 100000",
        meaning="Most extractions of videos in any hour, including repeated ones; at most 20 start at once. All "
        "instances on one Redis share this budget. YouTube refuses an address from about 300 an hour on. 0: no limit.",
        parse=integer_within(0, 100_000),
    ),
    Variable(
        name="IDENTITIES_FILE",
        default="",
        form="a readable file",
        meaning="Several egress routes to YouTube, one per line, each with a budget. They replace `EGRESS_PROXY`, "
        "`EGRESS_FAMILY`, `EGRESS_SOURCE_ADDRESS`, `EGRESS_VIDEOS_PER_HOUR` and `COOKIES_FILE`.",
        parse=file,
    ),
    Variable(
        name="EGRESS_FAMILY",
        default="auto",
        form="auto, 4 or 6",
        meaning="IP version of the connections to YouTube. `auto`: each conversion keeps that of its first connection.",
        parse=one_of("auto", "4", "6"),
    ),
    Variable(
        name="EGRESS_SOURCE_ADDRESS",
        default="",
        form="an IP address of this machine",
        meaning="Source address of the connections to YouTube. It also determines the IP version.",
        parse=address,
    ),
    Variable(
        name="EGRESS_CA_FILE",
        default="",
        form="a readable file with certificates in PEM form",
        meaning="A certificate authority to trust besides the system's, for a proxy that decrypts TLS.",
        parse=certificates,
    ),
    Variable(
        name="YOUTUBE_CLIENTS",
        default="",
        form="groups of yt-dlp's player clients, separated by commas, with + between the clients of a group",
        meaning="Order in which yt-dlp's player clients are tried: if no client of a group can serve a video, the next "
        "group is tried. Empty: `visionos,default`, where `default` is yt-dlp's own choice.",
        parse=player_clients,
    ),
    Variable(
        name="YTDLP_EXTRACTOR_ARGS",
        default="",
        form="youtube:KEY=VALUE,VALUE;KEY=VALUE with the keys player_client, player_skip, skip, lang, formats, "
        "player_js_variant",
        meaning="Arguments of yt-dlp's YouTube extractor, for use when YouTube has changed and no new yt-dlp exists "
        "yet, such as `youtube:player_client=visionos,web`.",
        parse=extractor_arguments,
    ),
    Variable(
        name="YTDLP_INDEX",
        default="",
        form="an http:// or https:// URL without query, such as https://index.example/simple",
        meaning="Package index from which `ytmp3 extractor` and `YTDLP_UPDATE` fetch releases of yt-dlp (PEP 503 or "
        "691). It may have a user name and a password. Empty: nothing can be fetched.",
        parse=plain_url,
    ),
    Variable(
        name="YTDLP_UPDATE",
        default="off",
        form="off, stable or nightly",
        meaning="Newer releases of yt-dlp are fetched from `YTDLP_INDEX` and used without a command: `stable` ones two "
        "days after their release, or `nightly` ones after one day. A release that fails is no longer used.",
        parse=one_of(OFF, STABLE, NIGHTLY),
    ),
    Variable(
        name="YTDLP_CANARY_URLS",
        default="",
        form="up to 10 links to videos of YouTube, separated by spaces",
        meaning="Videos with which a release is tried at YouTube before `YTDLP_UPDATE` uses it for conversions. Empty: "
        "this trial is skipped.",
        parse=video_links,
    ),
    Variable(
        name="COOKIES_FILE",
        default="",
        form="a readable file with cookies in Netscape format",
        meaning="Cookies of a YouTube account. They are used only for videos that YouTube refuses to guests (age, bot "
        "check), and renewed ones are written back to the file.",
        parse=cookies,
    ),
    Variable(
        name="POT_PROVIDER_URL",
        default="",
        form="an http:// or https:// URL without query",
        meaning="Provider of proof-of-origin tokens, such as `http://pot:4416` (bgutil-ytdlp-pot-provider). With it, "
        "the client `mweb`, which needs tokens, is asked after all others.",
        parse=plain_url,
    ),
)
"""Extends `variables.VARIABLES`."""
