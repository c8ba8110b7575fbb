"""Run the serving service."""

from services.runtime.service import run
from services.serving.bootstrap import build

run(build)
