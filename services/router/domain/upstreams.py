"""When a model that fails is asked again, and when it is left alone. Times are of a monotonic clock, in seconds."""

from dataclasses import dataclass

# Failures in a row after which a model is left alone, and for how long: twice as long each time that it fails again.
FAILURES = 5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# Second attempts that an upstream is given: for a tenth of its requests, and up to ten saved up.
RETRY_SHARE = 0.1
RETRIES_SAVED = 10.0


@dataclass
class Breaker:
    """Of one model (Nygard, "Release It!", 2007, "Circuit Breaker").

    After too many failures in a row nobody asks it; when the pause is over, one request does, and what becomes of that
    decides.
    """

    _failures: int = 0
    _pause_seconds: float = FIRST_PAUSE_SECONDS
    _closed_until: float = 0.0

    def lets_ask(self, now: float) -> bool:
        """Return whether the model may be asked; of those who wait for the end of a pause, the first may."""
        if self._failures < FAILURES:
            return True
        if now < self._closed_until:
            return False
        self._closed_until = now + self._pause_seconds
        return True

    def remaining_seconds(self, now: float) -> float:
        """Return how long the pause still takes."""
        return max(0.0, self._closed_until - now)

    def succeeded(self) -> None:
        """Take in that the model answered."""
        self._failures, self._pause_seconds = 0, FIRST_PAUSE_SECONDS

    def failed(self, now: float) -> None:
        """Take in that it did not."""
        self._failures += 1
        if self._failures == FAILURES:
            self._closed_until = now + self._pause_seconds
        elif self._failures > FAILURES:
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
            self._closed_until = now + self._pause_seconds


@dataclass
class RetryBudget:
    """Of one upstream: so that those who try again do not keep down what struggles.

    As in "Finagle", Retry Budgets: https://twitter.github.io/finagle/guide/Clients.html#retries.
    """

    _saved: float = RETRIES_SAVED

    def asked(self) -> None:
        """Take in a first attempt."""
        self._saved = min(RETRIES_SAVED, self._saved + RETRY_SHARE)

    def takes_another(self) -> bool:
        """Return whether one more attempt may be made, and count it."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
