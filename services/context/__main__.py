"""Run the context service."""

from services.context.bootstrap import build
from services.runtime.service import run

run(build)
