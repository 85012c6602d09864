"""How the time of a call grows with its input: a ratio within one process, which a busy machine does not change."""

import time
from collections.abc import Callable


def growth(call: Callable[[int], object], small: int, times: int = 8) -> float:
    """CPU time of an input ``times`` as large over that of the small one, the best of three each."""

    def seconds(size: int) -> float:
        found = []
        for _ in range(3):
            started = time.process_time()
            call(size)
            found.append(time.process_time() - started)
        return min(found)

    return seconds(small * times) / max(seconds(small), 1e-4)
