"""What `gyre policy push` tells, for governance and everybody else."""

from datetime import datetime

from schemas.events.base import Event


class BundlePublished(Event, frozen=True, kw_only=True):
    """A whole bundle; `content` is the JSON of `schemas.bundle.Bundle`."""

    name: str = "bundle"
    version: str
    published_at: datetime
    content: str
    published_by: str = ""  # the account that ran the command, and whose certificate it showed
