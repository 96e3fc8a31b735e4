"""Values that the tests of the core start from."""

from ytmp3.core.ids import ClientId, ConversionId, ConversionKey, InstanceId, JobId, VideoId
from ytmp3.core.job import Conversion, Job, Metadata, State, Ticket, Track

NOW = 1_700_000_000.0
VIDEO_ID = VideoId("dQw4w9WgXcQ")
KEY = ConversionKey("youtube:dQw4w9WgXcQ:mp3-192k")
METADATA = Metadata(title="A song", uploader="Someone", duration_seconds=212.0, thumbnail_url="https://i.ytimg.com/x")
TRACK = Track(
    file_name="ab-3.mp3", size_bytes=5_000_000, duration_seconds=212.1, sha256="cd" * 32, published_at=NOW + 20
)


def conversion(
    number: int = 1, *, client: str = "addr:192.0.2.1", state: State = State.QUEUED, token: int = 1
) -> Conversion:
    return Conversion(
        conversion_id=ConversionId(f"{number:034x}"),
        key=KEY,
        video_id=VIDEO_ID,
        client=ClientId(client),
        state=state,
        token=token,
        holder=InstanceId("a") if state in {State.QUEUED, State.RUNNING} else None,
        due_at=NOW + 30,
        created_at=NOW,
    )


def ticket(of: Conversion, *, cancelled_at: float | None = None, deduplicated: bool = False) -> Ticket:
    return Ticket(
        job=Job(
            job_id=JobId("ab" + "1" * 32),
            conversion_id=of.conversion_id,
            client=of.client,
            deduplicated=deduplicated,
            created_at=NOW,
            cancelled_at=cancelled_at,
        ),
        conversion=of,
    )
