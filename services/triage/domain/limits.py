"""How often somebody may try, and how fast they may go on."""

import math

from services.runtime.errors import ResourceExhausted

# So many keys are remembered before those that no longer matter are looked for.
_MANY = 10_000


class Attempts:
    """Waits that grow with each attempt that did not succeed: 1, 2, 4 seconds and so on.

    An attempt counts when it begins, so that many at the same time do not slip through.
    """

    def __init__(self, free: int, longest_seconds: float) -> None:
        """Say how patient to be.

        Args:
            free: So many attempts in a row without a wait.
            longest_seconds: No wait is longer; twice as long without an attempt, and all is forgotten.
        """
        self._free = free
        self._longest_seconds = longest_seconds
        self._of: dict[str, tuple[int, float]] = {}  # how many, when the last began

    def begin(self, key: str, now: float) -> None:
        """Count an attempt.

        Args:
            key: Whose.
            now: In seconds, of a clock that only goes forward.

        Raises:
            ResourceExhausted: It comes too early, and is not counted.
        """
        count, last = self._of.get(key, (0, now))
        if now - last > 2 * self._longest_seconds:
            count = 0
        over = count - self._free
        wait_seconds = 0.0 if over < 0 else min(self._longest_seconds, 2.0 ** min(over, 32))
        left_seconds = last + wait_seconds - now
        if wait_seconds and left_seconds > 0:
            raise ResourceExhausted(
                f"too many attempts; the next one may come in {math.ceil(left_seconds)} s", left_seconds
            )
        if len(self._of) >= _MANY:
            self._forget(now)
        self._of[key] = count + 1, now

    def succeeded(self, key: str) -> None:
        """Forget the attempts of a key: the last one was right."""
        self._of.pop(key, None)

    def take_back(self, key: str) -> None:
        """Count the last attempt of a key no more, and leave those before it."""
        count, last = self._of.get(key, (0, 0.0))
        if count > 1:
            self._of[key] = count - 1, last
        else:
            self._of.pop(key, None)

    def _forget(self, now: float) -> None:
        kept = {key: each for key, each in self._of.items() if now - each[1] <= 2 * self._longest_seconds}
        # An attacker with very many addresses or names does not fill the memory.
        self._of = dict(sorted(kept.items(), key=lambda each: each[1][1])[-_MANY // 2 :])


class Pace:
    """A bucket of tokens for each key, which fills evenly and holds a minute's worth."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._of: dict[str, tuple[float, float]] = {}  # what is left, at which time

    def take(self, key: str, now: float) -> None:
        """Take a token.

        Args:
            key: Whose.
            now: In seconds, of a clock that only goes forward.

        Raises:
            ResourceExhausted: There is none.
        """
        left, at = self._of.get(key, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - at) * self._per_minute / 60)
        if left < 1:
            raise ResourceExhausted(
                f"more than {self._per_minute} requests a minute", (1 - left) * 60 / self._per_minute
            )
        if len(self._of) >= _MANY:
            # Who was away for a minute has a full bucket again.
            self._of = {each: one for each, one in self._of.items() if now - one[1] < 60}
        self._of[key] = left - 1, now
