"""Run the audit service."""

from services.audit.bootstrap import build
from services.runtime.service import run

run(build)
