"""Run the governance service."""

from services.governance.bootstrap import build
from services.runtime.service import run

run(build)
