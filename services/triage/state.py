"""The bundle in force, as the topic tells it."""

import asyncio

from schemas.bundle import Bundle
from schemas.events import BundlePublished
from services.runtime.bundles import NOTHING_PUBLISHED, bundle_of
from services.runtime.errors import Retryable


class FollowedBundles:
    """The bundle that was published last."""

    def __init__(self) -> None:
        self._bundle: Bundle | None = None
        self.published = asyncio.Event()

    def apply(self, event: BundlePublished) -> None:
        """Take what was published.

        Raises:
            Rejected: It is not a bundle; the one before holds on.
        """
        self._bundle = bundle_of(event)
        self.published.set()

    def current(self) -> Bundle:
        """Return the bundle.

        Raises:
            Retryable: None has been published yet.
        """
        if self._bundle is None:
            raise Retryable(NOTHING_PUBLISHED)
        return self._bundle
