"""Jobs: what a client sees of one, and the name of its track."""

import pytest

from tests.core.values import NOW, conversion, ticket
from ytmp3.core import job, recipe
from ytmp3.core.ids import ConversionId, InstanceId
from ytmp3.core.job import Lease, State, Status


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.QUEUED, Status.PENDING),
        (State.RUNNING, Status.PROCESSING),
        (State.DONE, Status.COMPLETED),
        (State.FAILED, Status.FAILED),
        (State.CANCELLED, Status.CANCELLED),
    ],
)
def test_a_jobs_status_is_its_conversions_unless_it_was_cancelled_itself(state: State, status: Status) -> None:
    assert ticket(conversion(state=state)).status is status
    assert ticket(conversion(state=state), cancelled_at=NOW).status is Status.CANCELLED


def test_a_ticket_shows_the_canonical_link() -> None:
    assert ticket(conversion()).url == "https://www.youtube.com/watch?v=dQw4w9WgXcQ"


def test_two_holders_never_publish_under_one_name() -> None:
    leases = [
        Lease(conversion_id=ConversionId("ab"), token=token, holder=InstanceId(holder))
        for token, holder in ((2, "a"), (3, "a"), (2, "b"))
    ]
    names = [job.track_file_name(lease, recipe.DEFAULT_RECIPE) for lease in leases]
    assert len(set(names)) == 3
    assert names[0] == "ab-2000000000000000000000000000000000000097.mp3"


def test_the_lease_of_a_conversion_without_a_holder_belongs_to_no_instance() -> None:
    assert conversion(state=State.DONE).lease.holder == ""
