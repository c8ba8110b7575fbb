"""Whether an answer has the form that was wanted."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Never

import jsonschema_rs
import msgspec

from services.governance.domain.detectors import ANYTHING, Detector, Span

KIND = "format"
# Beyond this a schema is obeyed by nothing: a few lines of references to references take years.
SECONDS = 0.5


def broken_format(answer: str, schema: str) -> Detector:
    """Return the detector that finds the whole of an answer that does not obey a JSON Schema.

    A schema that is none, that refers to another document, or that takes too long is obeyed by nothing.
    """

    def find(folded: str) -> Iterator[Span]:
        if schema and not _VALIDATION.obeys(answer, schema):
            yield Span(KIND, 0, len(folded))

    return Detector(KIND, ANYTHING, find)


class _Validation:
    """Validates in a process of its own: callers write the schemas, and nothing else ends a validation early."""

    def __init__(self) -> None:
        self._process: ProcessPoolExecutor | None = None
        self._one_at_a_time = threading.Lock()

    def obeys(self, answer: str, schema: str) -> bool:
        with self._one_at_a_time:
            if self._process is None:
                self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _end_with_parent)
                self._process.submit(_obeys, "{}", "{}").result()  # its start is nobody's validation
            try:
                return self._process.submit(_obeys, answer, schema).result(SECONDS)
            except (TimeoutError, BrokenProcessPool):
                self._stop(self._process)
                self._process = None
                return False

    @staticmethod
    def _stop(process: ProcessPoolExecutor) -> None:
        for each in process._processes.values():
            each.kill()
        process.shutdown(wait=False, cancel_futures=True)


_VALIDATION = _Validation()


def _end_with_parent() -> None:
    """A process that waits for work does not notice by itself that nobody is left to send any."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def _obeys(answer: str, schema: str) -> bool:
    try:
        return _validator(schema).is_valid(msgspec.json.decode(answer))
    except (ValueError, RecursionError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        return False


@lru_cache(maxsize=64)
def _validator(schema: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(
        msgspec.json.decode(schema), retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions()
    )


def _refuse(address: str) -> Never:
    raise ValueError(f"schemas may not refer to {address}")
