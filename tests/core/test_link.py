"""Links: every spelling of a video becomes its id, and every near miss is refused."""

import contextlib
import random
import re
import string
import time
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.link_tables import ACCEPTED, ID, NOT_VIDEOS, PASTED, REASONS, REFUSED, WATCH
from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3.core.errors import NotAVideo, RequestError, UnsupportedUrl
from ytmp3.core.ids import VideoId
from ytmp3.core.link import MAX_LINK_CHARACTERS, canonical_link, parse_link, parse_video_id
from ytmp3.core.recipe import DEFAULT_RECIPE, conversion_key

ID_CHARACTERS = string.ascii_letters + string.digits + "_-"
video_ids = st.text(ID_CHARACTERS, min_size=11, max_size=11)


def test_the_tables_have_at_least_100_accepted_and_100_refused_links() -> None:
    assert len(set(ACCEPTED) | set(PASTED)) >= 100
    assert len(set(REFUSED) | set(NOT_VIDEOS)) >= 100


@pytest.mark.parametrize("link", ACCEPTED)
def test_every_spelling_of_a_video_becomes_its_id(link: str) -> None:
    assert parse_video_id(link) == ID


def test_every_spelling_of_a_video_has_one_key() -> None:
    assert {conversion_key(parse_video_id(link), DEFAULT_RECIPE) for link in (*ACCEPTED, *PASTED)} == {
        f"youtube:{ID}:mp3-192k"
    }


@pytest.mark.parametrize("link", PASTED, ids=range(len(PASTED)))
def test_a_link_as_people_paste_it_becomes_its_id(link: str) -> None:
    assert parse_video_id(link) == ID


@pytest.mark.parametrize(
    ("link", "has_playlist"),
    [
        (f"{WATCH}&list=PLrAXtmErZgOeiKm4sgNOknGvNjby9efdf&index=3", True),
        (f"https://youtu.be/{ID}?list=OLAK5uy_kZ", True),
        (f"https://consent.youtube.com/m?continue=https%3A%2F%2Fwww.youtube.com%2Fwatch%3Fv%3D{ID}%26list%3DPLx", True),
        (f"{WATCH}&list=RD{ID}&start_radio=1", False),
        (f"{WATCH}&list=WL", False),
        (f"{WATCH}&list=", False),
        (f"{WATCH}&playlist=PLx&x=list=PLx", False),
        (WATCH, False),
        (ID, False),
    ],
)
def test_a_link_that_also_names_a_playlist_is_told_from_others(link: str, *, has_playlist: bool) -> None:
    assert parse_link(link).video_id == ID
    assert parse_link(link).has_playlist is has_playlist


@pytest.mark.parametrize(("link", "words"), REASONS, ids=range(len(REASONS)))
def test_a_refused_link_gets_a_text_that_says_what_is_wrong(link: str, words: str) -> None:
    with pytest.raises((UnsupportedUrl, NotAVideo)) as refused:
        parse_video_id(link)
    text = refused.value.public_detail
    assert words in text
    assert text.endswith(".")
    # What the client sent is not repeated.
    assert not link or link not in text


@pytest.mark.parametrize("link", REFUSED, ids=range(len(REFUSED)))
def test_a_link_that_is_not_a_youtube_link_is_refused(link: str) -> None:
    with pytest.raises(UnsupportedUrl):
        parse_video_id(link)


@pytest.mark.parametrize("link", NOT_VIDEOS)
def test_a_youtube_link_that_names_no_video_is_refused_with_its_own_code(link: str) -> None:
    with pytest.raises(NotAVideo):
        parse_video_id(link)


def test_an_id_that_looks_like_a_command_line_option_is_accepted() -> None:
    for link in ("https://www.youtube.com/watch?v=-QQw4w9WgXc", "-QQw4w9WgXc"):
        assert parse_video_id(link) == "-QQw4w9WgXc"


def test_a_link_of_the_longest_length_is_accepted_and_a_longer_one_is_not() -> None:
    longest = WATCH + "&x=" + "a" * (MAX_LINK_CHARACTERS - len(WATCH) - 3)
    assert parse_video_id(longest) == ID
    with pytest.raises(UnsupportedUrl):
        parse_video_id(longest + "a")


@given(video_ids)
@example("videoseries")
def test_the_canonical_link_of_an_id_has_that_id(video_id: str) -> None:
    assert parse_video_id(canonical_link(VideoId(video_id))) == video_id


@given(
    video_ids,
    st.sampled_from(["www.youtube.com/watch?v={}", "youtu.be/{}", "m.youtube.com/shorts/{}", "youtube.com/embed/{}"]),
    st.text("abcdefgh%20=&+._-", max_size=60),
)
def test_only_the_eleven_characters_of_the_id_are_taken_from_a_link(video_id: str, form: str, noise: str) -> None:
    link = "https://" + form.format(video_id)
    link += ("&" if "?" in link else "?") + noise
    with contextlib.suppress(RequestError):  # the noise may name a second video
        assert parse_video_id(link) == video_id


@pytest.mark.fuzz
def test_garbled_links_give_only_ids_that_stand_in_them() -> None:
    """A link whose id is changed, cut or buried is refused, or the eleven characters of the result stand in it."""
    rng = random.Random(11)
    forms = [
        "https://www.youtube.com/watch?v={}",
        "https://youtu.be/{}",
        "http://m.youtube.com/shorts/{}",
        "youtu.be/{}",
    ]
    pieces = [
        "&",
        "=",
        "/",
        "?",
        "#",
        "%",
        "%2e",
        "..",
        "@",
        ":",
        " ",
        "\x00",
        "\r\n",
        "é",
        "`",
        "$(x)",
        ";",
        "-",
        "v=",
        "\u202e",
    ]
    accepted = 0
    links = 20_000 * FUZZ_FACTOR
    for _ in range(links):
        link = rng.choice(forms).format("".join(rng.choices(ID_CHARACTERS, k=rng.choice((10, 11, 11, 11, 12)))))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(link))
            link = link[:at] + rng.choice((*pieces, rng.choice(ID_CHARACTERS))) + link[at + rng.randrange(2) :]
        try:
            video_id = parse_video_id(link)
        except (UnsupportedUrl, NotAVideo):
            continue
        accepted += 1
        assert re.fullmatch(r"[A-Za-z0-9_-]{11}", video_id), link
        assert video_id in unquote(link), link
    assert links / 10 < accepted < links / 2


@given(st.text())
@settings(max_examples=300 * FUZZ_FACTOR)
def test_no_text_raises_anything_but_the_two_errors(text: str) -> None:
    _parse_any(text)


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["https://", "http://", "www.youtube.com", "youtu.be", "/watch", "?v=", "&v=", "/", "//", "?", "#",
                 "@", ":", "%", "%00", "%ff", "%2f", "..", "/embed/", "/shorts/", "/live/", "/@", ID, "&", "=", ".",
                 " ", ";", "/redirect?q=", "https%3A%2F%2F", "%252F", "consent.youtube.com/m?continue=", "&amp;"]
            ),
            st.characters(),
        ),
        max_size=12,
    )
)  # fmt: skip
@settings(max_examples=400 * FUZZ_FACTOR)
def test_no_heap_of_pieces_of_links_raises_anything_but_the_two_errors(pieces: list[str]) -> None:
    _parse_any("".join(pieces))


def _parse_any(text: str) -> None:
    try:
        video_id = parse_video_id(text)
    except (UnsupportedUrl, NotAVideo):
        return
    assert re.fullmatch(r"[A-Za-z0-9_-]{11}", video_id)
    assert type(video_id) is str
    assert parse_video_id(canonical_link(VideoId(video_id))) == video_id


@pytest.mark.parametrize(
    "filling",
    [
        "%",
        "%41",
        "&",
        "&v",
        "&v=a",
        "/",
        "//",
        ".",
        "..",
        "a.",
        "@",
        "?",
        "#",
        "-",
        "a",
        "%2f%2e",
        "/@a",
        "http://",
        "=",
        "q=",
        "&q=/",
        "%252f",
        "https://www.youtube.com/redirect?q=",
        " ",
    ],
)
@pytest.mark.parametrize(
    "start",
    ["", "https://", WATCH, "https://www.youtube.com/redirect?", "https://www.youtube.com/", "https://youtu.be/"],
)
def test_a_hostile_link_is_parsed_in_linear_time(start: str, filling: str) -> None:
    link = (start + filling * MAX_LINK_CHARACTERS)[:MAX_LINK_CHARACTERS]
    began_at = time.process_time()
    _parse_any(link)
    # CPU time, which other programs do not add to. It takes 0.2 ms; a cubic pattern takes seconds.
    assert time.process_time() - began_at < 0.5


@pytest.mark.parametrize(
    ("link", "start_ms"),
    [
        (WATCH, None),
        (f"{WATCH}&t=90", 90_000),
        (f"{WATCH}&t=1m30s", 90_000),
        (f"{WATCH}&t=1h2m3s&list=WL", 3_723_000),
        (f"{WATCH}#t=1m30s", 90_000),
        (f"https://youtu.be/{ID}?si=x&t=5", 5000),
        (f"https://youtu.be/{ID}#t=5", 5000),
        (f"https://www.youtube.com/embed/{ID}?start=7", 7000),
        (f"{WATCH}&time_continue=7", 7000),
        (f"{WATCH}&t=0s", 0),
        (f"{WATCH}&t=", None),
        (f"{WATCH}&t=soon", None),
        (f"{WATCH}&t=-5", None),
        (f"{WATCH}&t=soon&start=7", 7000),
        (f"https://www.youtube.com/attribution_link?u=%2Fwatch%3Fv%3D{ID}%26t%3D9", 9000),
        (ID, None),
    ],
)
def test_a_link_may_say_where_to_start(link: str, start_ms: int | None) -> None:
    assert parse_link(link).start_ms == start_ms
