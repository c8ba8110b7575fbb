"""The console is shown by a triage process as the integration tests start it."""

from tests.integration.triage.conftest import _process, producer, review, triage

__all__ = ["_process", "producer", "review", "triage"]
