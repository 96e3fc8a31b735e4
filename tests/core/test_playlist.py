"""Links to playlists, albums and channels: which are accepted, and what yt-dlp is given."""

import pytest

from ytmp3.core.batch import first_marks, items_of_playlist
from ytmp3.core.errors import NotAPlaylist, PlaylistRefused, RequestError, UnsupportedUrl
from ytmp3.core.ids import VideoId
from ytmp3.core.playlist import Entry, Listing, parse_playlist

LIST = "PLBCF2DAC6FFB574DE"
UPLOADS = "UU" + "a" * 22


@pytest.mark.parametrize(
    ("link", "list_id"),
    [
        (f"https://www.youtube.com/playlist?list={LIST}", LIST),
        (f"  youtube.com/playlist?list={LIST}&si=x ", LIST),
        (f"https://music.youtube.com/playlist?list=OLAK5uy_{'k' * 33}", f"OLAK5uy_{'k' * 33}"),
        (f"https://www.youtube.com/watch?v=dQw4w9WgXcQ&list={LIST}&index=3", LIST),
        (f"https://youtu.be/dQw4w9WgXcQ?list={LIST}", LIST),
        (f"https://www.youtube.com/embed/videoseries?list={LIST}", LIST),
        (f"https://music.youtube.com/playlist?list=RDCLAK5uy_{'m' * 33}", f"RDCLAK5uy_{'m' * 33}"),
        (LIST, LIST),
        (f"https://www.youtube.com/channel/UC{'a' * 22}", UPLOADS),
        (f"https://www.youtube.com/channel/UC{'a' * 22}/videos", UPLOADS),
    ],
)
def test_a_list_is_named_by_its_id_alone(link: str, list_id: str) -> None:
    assert parse_playlist(link) == f"https://www.youtube.com/playlist?list={list_id}"


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("https://www.youtube.com/@Blender", "@Blender/videos"),
        ("youtube.com/@Blender/videos", "@Blender/videos"),
        ("https://www.youtube.com/@%E3%81%82", "@%E3%81%82/videos"),
        ("https://www.youtube.com/c/Blender", "c/Blender/videos"),
        ("https://www.youtube.com/user/blenderfoundation/videos", "user/blenderfoundation/videos"),
    ],
)
def test_a_channel_means_its_uploads(link: str, page: str) -> None:
    assert parse_playlist(link) == f"https://www.youtube.com/{page}"


@pytest.mark.parametrize(
    ("list_id", "code"),
    [
        ("RDdQw4w9WgXcQ", "playlist_endless"),
        ("RDMM", "playlist_endless"),
        ("ULdQw4w9WgXcQ", "playlist_endless"),
        ("WL", "playlist_personal"),
        ("LL", "playlist_personal"),
        ("LM", "playlist_personal"),
    ],
)
def test_mixes_and_personal_lists_are_refused_with_a_code(list_id: str, code: str) -> None:
    with pytest.raises(PlaylistRefused) as refusal:
        parse_playlist(f"https://www.youtube.com/watch?v=dQw4w9WgXcQ&list={list_id}")
    assert refusal.value.reason_code == code


@pytest.mark.parametrize(
    "link",
    [
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        "https://www.youtube.com/playlist",
        "https://www.youtube.com/playlist?list=",
        "https://www.youtube.com/playlist?list=XXunknown",
        f"https://www.youtube.com/playlist?list={LIST}&list=PLother0000000",
        f"https://www.youtube.com/playlist?list={LIST}%0d%0aX",
        "https://www.youtube.com/@",
        "https://www.youtube.com/@a/b",
        "https://www.youtube.com/@a%2f..%2fb",
        "https://www.youtube.com/channel/UCshort",
        "https://www.youtube.com/results?search_query=x",
        "https://www.youtube.com/feed/history",
    ],
)
def test_other_pages_of_youtube_are_no_playlists(link: str) -> None:
    with pytest.raises(NotAPlaylist):
        parse_playlist(link)


@pytest.mark.parametrize("link", ["", "x", "https://example.org/playlist?list=PLx", "ftp://youtube.com/@a", "x" * 3000])
def test_other_texts_are_no_links_to_youtube(link: str) -> None:
    with pytest.raises(RequestError) as refusal:
        parse_playlist(link)
    assert isinstance(refusal.value, UnsupportedUrl | NotAPlaylist)


def test_entries_that_are_private_or_deleted_are_named() -> None:
    entries = (
        Entry(video_id=VideoId("video000001")),
        Entry(video_id=VideoId("video000002"), code="private"),
        Entry(video_id=VideoId("video000003"), code="removed"),
        Entry(video_id=VideoId("video000001")),
    )
    items = items_of_playlist(Listing(title="x", entries=entries, is_truncated=False))
    assert [item.code for item in items] == [None, "private", "removed", None]
    assert all(item.message for item in items if item.code)
    assert first_marks(items) == "wrrd"
