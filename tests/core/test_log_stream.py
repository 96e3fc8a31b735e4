"""The log's stream: its writer never waits, whoever reads the other end or does not."""

import json
import logging
import os
import threading

from ytmp3 import logs
from ytmp3.log_stream import LogStream


def test_lines_that_nobody_reads_keep_no_writer_waiting_and_are_counted() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as writer:
        stream = LogStream(writer, max_lines=100)
        # Far more than the pipe and the queue hold together: without the thread, this would never return.
        for number in range(5_000):
            stream.write(f"line {number} {'.' * 1000}\n")
        lines: list[bytes] = []
        wanted = threading.Event()

        def read() -> None:
            for line in reader:
                lines.append(line)
                if line.startswith(b"{"):
                    wanted.set()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        assert wanted.wait(60)
        stream.drain(60)
        writer.close()
        thread.join()
    assert lines[0].startswith(b"line 0 ")
    dropped = sum(json.loads(line)["lines"] for line in lines if line.startswith(b"{"))
    assert dropped + sum(line.startswith(b"line") for line in lines) == 5_000


def test_a_drained_stream_has_written_every_event(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "log")
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        with open(path, "w", encoding="utf-8") as file:
            stream = LogStream(file)
            assert not logs.set_up(style="json", level="info", stream=stream)
            for number in range(50):
                logging.getLogger("test").info("event", extra={"number": number})
            stream.drain(60)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    with open(path, encoding="utf-8") as file:
        assert len(file.readlines()) == 50
