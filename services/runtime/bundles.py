"""The bundle as every service reads it from its topic."""

from pydantic import ValidationError

from schemas.bundle import Bundle
from schemas.events import BundlePublished
from services.runtime.errors import Rejected

NOTHING_PUBLISHED = "no bundle has been published: gyre policy push"


def bundle_of(published: BundlePublished) -> Bundle:
    """Return the bundle that was published.

    Raises:
        Rejected: It is none; the message names the field, and what was before stays in force.
    """
    try:
        return Bundle.model_validate_json(published.content)
    except ValidationError as error:
        # Not the input: a bundle holds what identifies its applications.
        first = error.errors(include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise Rejected(f"bundle {published.version} cannot be used: {field}: {first['msg']}") from error
