"""What is said of a dataset version as a whole."""

import msgspec

from services.trainer.dataset.rows import Reason, Sensitivity, Split


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a dataset version is.

    Attributes:
        dataset_id: SHA-256 of what is learned from, 64 hex digits; also the folder's name.
        parent: The version before, whose assignments were carried on.
        created_at_ms: Milliseconds since 1970 UTC.
        tenant: Whose it is.
        task: What it is for.
        sensitivity: Highest level of any row.
        holdout_share: Share of new requests that were put aside.
        rows: Rows in all.
        splits: Rows per split.
        label_ids: Labels that are in it, sorted.
        refused_label_ids: Labels that could have been learned from and that refinement left out, sorted.
        sources: Rows per source.
        left_out: Labels in `left_out.parquet` per reason.
        clusters: Clusters of near-duplicates that the rows make; as many as rows where none is near another.
        replayed: Rows that were carried on from the version before, for the topics know nothing of them any more.
        personal_data: Kinds of personal data and secrets that no row holds.
        erased: Rows of these that hold no content any more.
        remaining_id: What `dataset_id` would be of the rows that are left; empty while none is erased.
    """

    dataset_id: str
    parent: str | None
    created_at_ms: int
    tenant: str
    task: str
    sensitivity: Sensitivity
    holdout_share: float
    rows: int
    splits: dict[Split, int]
    label_ids: tuple[str, ...]
    refused_label_ids: tuple[str, ...]
    sources: dict[str, int]
    left_out: dict[Reason, int] = {}
    clusters: int = 0
    replayed: int = 0
    personal_data: tuple[str, ...] = ()
    erased: int = 0
    remaining_id: str = ""
