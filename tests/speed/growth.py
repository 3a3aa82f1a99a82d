# SPDX-License-Identifier: Apache-2.0
"""Measures in the test kernel how long a growth takes while the volume is written, and what its writer notices."""

import os
import statistics
import threading
import time

GIB = 1 << 30
ROUNDS = 5
NAMES = ("growth_s", "growth_pause_s", "write_pause_s")


class Writer:
    """Writes and flushes a block again and again, and remembers the longest time that one took."""

    def __init__(self, path):
        self.path, self.longest, self.is_over = path, 0.0, False
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT)
        while not self.is_over:
            start = time.monotonic()
            os.pwrite(descriptor, os.urandom(4096), 0)
            os.fsync(descriptor)
            self.longest = max(self.longest, time.monotonic() - start)
        os.close(descriptor)

    def __enter__(self) -> "Writer":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.is_over = True
        self.thread.join()


def measure(client) -> dict[str, float]:
    """Medians of growths in a row. write_pause_s is the longest write in as much time without a growth."""
    volume = client.create(size=GIB, integrity="aegis128", provisioning="thin")
    client.mount(volume)
    taken, paused, quiet = [], [], []
    for number in range(ROUNDS):
        with Writer(volume.file) as writer:
            start = time.monotonic()
            client.expand(volume, (2 + number) * GIB)
            taken.append(time.monotonic() - start)
        paused.append(writer.longest)
        with Writer(volume.file) as writer:
            time.sleep(taken[-1])
        quiet.append(writer.longest)
    client.unmount(volume)
    client.delete(volume)
    figures = (statistics.median(times) for times in (taken, paused, quiet))
    return dict(zip(NAMES, figures, strict=True))
