"""The console is shown by a triage process as the integration tests start it."""

from tests.integration.triage.conftest import _process, callers, producer, review, triage

__all__ = ["_process", "callers", "producer", "review", "triage"]
