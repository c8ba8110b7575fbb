"""What a request is for, where its application did not say: told by the examples that the bundle gives of each task."""

from collections.abc import Callable, Sequence

from schemas.bundle import Bundle
from services.runtime.embeddings import Space

# Enough of a request to tell by.
CHARACTERS = 1000


class TaskClassifier:
    """Tells the tasks of applications that have several, by static embeddings."""

    def __init__(self, bundle: Bundle, space: Callable[[], Space]) -> None:
        """Take in a bundle's examples; without any that are needed, no embeddings are loaded."""
        told_apart = {
            task for application in bundle.applications.values() if len(application.tasks) > 1
            for task in application.tasks if bundle.tasks[task].examples
        }  # fmt: skip
        self._space = space() if told_apart else None
        self._likeness = {
            task: self._space.likeness(bundle.tasks[task].examples) for task in sorted(told_apart) if self._space
        }

    def can_tell(self, tasks: Sequence[str]) -> bool:
        """Return whether there is anything to tell tasks by."""
        return any(task in self._likeness for task in tasks)

    def task_of(self, text: str, tasks: Sequence[str]) -> str:
        """Return the likeliest of the tasks; empty where the text is likelier an ordinary request than any of them."""
        likeness = {task: self._likeness[task] for task in tasks if task in self._likeness}
        if self._space is None or not likeness:
            return ""
        vector = self._space.embed([text[:CHARACTERS]])
        scores = {task: float(each.scores(vector)[0]) for task, each in likeness.items()}
        best = max(scores, key=scores.__getitem__)
        return best if scores[best] > 0 else ""
