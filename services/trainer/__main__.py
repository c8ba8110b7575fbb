"""Run the trainer service."""

from services.runtime.service import run
from services.trainer.bootstrap import build

run(build)
