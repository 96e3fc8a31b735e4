"""The shared values of a store whose calls a test can let fail."""

from tests.faulty_batches import Call
from ytmp3.jobstore import SharedValue, SharedValues


class FaultyValues:
    """The shared values of a FaultyStore."""

    def __init__(self, values: SharedValues, call: Call) -> None:
        self._values = values
        self._call = call

    async def read(self, name: str) -> SharedValue:
        return await self._call("read_value", lambda: self._values.read(name))

    async def replace(self, name: str, old: bytes | None, new: bytes) -> bool:
        return await self._call("replace_value", lambda: self._values.replace(name, old, new))
