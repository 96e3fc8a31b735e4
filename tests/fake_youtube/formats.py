"""The `streamingData` of a player response: formats and manifests, with the links that the client gets."""

import math
from collections.abc import Mapping
from typing import Any, Final

from .asked import Asked
from .behaviour import Delivery, Links, Manifest, Media, Offer, Track
from .heavy import pictures
from .links import manifest_link, media_link, scrambled_link
from .media import mime_of

HUGE_BYTES: Final = 600_000_000
SKIPPABLE_AD_SECONDS: Final = 90
_LIGHT_PICTURE: Final = (136, 'video/mp4; codecs="avc1.4d401f"', 720, 25)
_SABR_LINK: Final = "https://rr1---sn-fake.googlevideo.com/videoplayback?sabr=1&source=youtube"


def ad_seconds(asked: Asked) -> int:
    return asked.number if asked.behaviour.ad else 0


class FormatWriter:
    """Writes the formats of one answer. `sizes` are the bodies' sizes in bytes, `now` is Unix time."""

    def __init__(self, asked: Asked, sizes: Mapping[Media, int], now: float) -> None:
        self._asked = asked
        self._sizes = sizes
        self._marks = {"c": asked.client.value}
        if asked.generation:
            self._marks["xg"] = str(asked.generation)
        if seconds := ad_seconds(asked):
            self._marks["xa"] = str(math.ceil(now) + seconds)

    def streaming_data(self) -> dict[str, Any]:
        asked, data = self._asked, self._formats()
        data["expiresInSeconds"] = "21540"
        if asked.links is Links.SABR:
            data["serverAbrStreamingUrl"] = _SABR_LINK
            return data
        if asked.links is Links.PROTECTED:
            data["licenseInfos"] = [{"drmFamily": "WIDEVINE", "url": "https://www.youtube.com/license"}]
            return data
        match asked.manifest:
            case Manifest.HLS:
                data["hlsManifestUrl"] = self._manifest("hls_variant")
            case Manifest.HLS_PACKED:
                data["hlsManifestUrl"] = self._manifest("hls_variant", packed="1")
            case Manifest.HLS_CHALLENGE:
                data["hlsManifestUrl"] = self._manifest("hls_variant", challenge=True)
            case Manifest.DASH:
                data["dashManifestUrl"] = self._manifest("dash")
            case Manifest.NONE:
                pass
        return data

    def _formats(self) -> dict[str, Any]:
        asked = self._asked
        sound = [self._sound(track) for track in asked.tracks]
        images = [self._picture(*each) for each in (pictures() if asked.is_heavy else [_LIGHT_PICTURE])]
        match asked.behaviour.offer:
            case Offer.VIDEO_ONLY:
                return {"adaptiveFormats": images}
            case Offer.MUXED | Offer.MUXED_AND_MANIFEST:
                shape = {"width": 640, "height": 360, "fps": 25, "quality": "medium", "qualityLabel": "360p"}
                return {"formats": [{**sound[0], **shape}]}
            case Offer.MANIFEST_ONLY:
                return {}
            case Offer.PROTECTED:
                licence = {"drmFamily": "WIDEVINE", "url": "https://www.youtube.com/license"}
                protected = [{**each, "drmFamilies": ["WIDEVINE"]} for each in (*sound, *images)]
                return {"adaptiveFormats": protected, "licenseInfos": [licence]}
            case Offer.LIVE:
                manifest = self._manifest("hls_variant", live="1")
                live = [{**each, "targetDurationSec": 5} for each in (*sound, *images)]
                return {"adaptiveFormats": live, "hlsManifestUrl": manifest}
            case Offer.AUDIO | Offer.UNANNOUNCED_SIZE:
                return {"adaptiveFormats": [*sound, *images]}

    def _manifest(self, name: str, *, challenge: bool = False, **more: str) -> str:
        asked = self._asked
        player = asked.player if challenge else None
        link = manifest_link(name, asked.identifier, asked.extraction, player=player, **self._marks, **more)
        return link if name == "dash" else f"{link}/file/index.m3u8"

    def _link(self, itag: int, **more: str) -> dict[str, Any]:
        """Return the fields of a format that hold its link, as the client gets it."""
        asked = self._asked
        more = {**self._marks, "itag": str(itag), **more}
        match asked.links:
            case Links.SABR:
                return {}
            case Links.SCRAMBLED:
                cipher = scrambled_link(
                    asked.player, asked.identifier, asked.extraction, is_heavy=asked.is_heavy, **more
                )
                return {"signatureCipher": cipher}
            case Links.PROTECTED:
                link = media_link(asked.identifier, asked.extraction, is_heavy=asked.is_heavy, **more)
                return {"url": link, "drmFamilies": ["WIDEVINE"]}
            case Links.PLAIN:
                return {"url": media_link(asked.identifier, asked.extraction, is_heavy=asked.is_heavy, **more)}

    def _picture(self, itag: int, mime: str, height: int, fps: int) -> dict[str, Any]:
        seconds = self._asked.seconds
        return {
            "itag": itag,
            **self._link(itag),
            "mimeType": mime,
            "bitrate": height * 2_000,
            "width": height * 16 // 9,
            "height": height,
            "fps": fps,
            "quality": f"hd{height}" if height >= 720 else "medium",
            "qualityLabel": f"{height}p",
            "approxDurationMs": str(seconds * 1000),
            "contentLength": str(seconds * height * 250),
        }

    def _sound(self, track: Track) -> dict[str, Any]:
        asked, mime, seconds = self._asked, mime_of(track.media), self._asked.track_seconds
        size_bytes = self._sizes.get(track.media, 0)
        if asked.behaviour.delivery is Delivery.HUGE:
            size_bytes = HUGE_BYTES
        # Fields are there only where there is something to say, as on YouTube.
        optional: dict[str, Any] = {}
        if asked.behaviour.offer is not Offer.UNANNOUNCED_SIZE:
            optional["contentLength"] = str(size_bytes)
        if track.language is not None:
            optional["audioTrack"] = {
                "displayName": track.name,
                "id": track.language,
                "audioIsDefault": track.default,
            }
        if track.levelled:
            optional["isDrc"] = True
        if track.spatial:
            optional["spatialAudioType"] = "SPATIAL_AUDIO_TYPE_AMBISONICS_QUAD"
        tags = {"xtags": track.tags} if track.tags else {}
        return {
            "itag": track.itag,
            **self._link(track.itag, dur=str(seconds), **tags),
            "mimeType": mime,
            "bitrate": track.kbps * 1000,
            "quality": "tiny",
            "audioQuality": f"AUDIO_QUALITY_{track.quality}",
            "audioSampleRate": "44100" if "mp4a" in mime else "48000",
            "audioChannels": track.channels,
            "approxDurationMs": str(seconds * 1000),
            **optional,
        }
