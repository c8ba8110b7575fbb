"""Which specialists nobody asks: they need not be loaded."""

from collections.abc import Callable
from datetime import datetime, timedelta

from schemas.events import Deployment, Interaction
from services.serving.state import WATCHED


class Idleness:
    """Remembers when each task's specialist was last asked, as the record tells it."""

    def __init__(self, idle_hours: float, now: Callable[[], datetime]) -> None:
        """Say after how many hours one is idle (0: never), and what the time is. What was before is not known."""
        self._idle = timedelta(hours=idle_hours)
        self._now = now
        self._since = now()
        self._asked: dict[str, datetime] = {}  # by task

    def take_interaction(self, interaction: Interaction) -> None:
        """Take note of who was asked, or was to be: a specialist that is not loaded fails, and is wanted again."""
        if any(attempt.tier == "specialist" for attempt in interaction.attempts):
            self._note(f"{interaction.tenant}/{interaction.task}", interaction.finished_at)

    def wake(self, task_key: str) -> None:
        """Have a task's specialist be loaded: a gate is about to ask it."""
        self._note(task_key, self._now())

    def _note(self, task_key: str, asked: datetime) -> None:
        self._asked[task_key] = max(asked, self._asked.get(task_key, self._since))

    def is_idle(self, deployment: Deployment) -> bool:
        """Return whether nobody has asked a specialist for so long; one that is still watched never is."""
        if not self._idle or deployment.state != "live":
            return False
        asked = self._asked.get(deployment.task_key, self._since)
        return self._now() - max(asked, deployment.deployed_at + WATCHED) >= self._idle
