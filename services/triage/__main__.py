"""Run the triage service."""

from services.runtime.service import run
from services.triage.bootstrap import build

run(build)
