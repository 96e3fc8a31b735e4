"""What each kind of video does: the one table of the fake's behaviour, in parts.

`ordinary` holds the kinds that any careful client copes with; the other parts hold what only the real YouTube used to
show. `UNKIND` names the kinds of those parts.
"""

from typing import Final

from tests.fake_youtube.behaviour import Behaviour
from tests.fake_youtube.kinds import Kind

from .clients import CLIENTS
from .delivery import DELIVERIES
from .ordinary import ORDINARY
from .refusals import REFUSALS, UNUSUAL_REFUSALS
from .sound import SOUNDS

_UNKIND: Final[dict[Kind, Behaviour]] = {**UNUSUAL_REFUSALS, **CLIENTS, **DELIVERIES, **SOUNDS}
BEHAVIOURS: Final[dict[Kind, Behaviour]] = {**ORDINARY, **REFUSALS, **_UNKIND}
UNKIND: Final = frozenset(_UNKIND)
