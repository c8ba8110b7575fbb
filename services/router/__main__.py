"""Run the router service."""

from services.router.bootstrap import build
from services.runtime.service import run

run(build)
