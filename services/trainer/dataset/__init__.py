"""Labels → a dataset version: Parquet with a manifest, and a hold-out that never moves.

A version is a folder named by the hash of what is learned from:

    manifest.json         what it is and where it comes from (`Manifest`)
    rows.parquet          one row per distinct request (`LabelledRow` and its split)
    left_out.parquet      every label that is not in it, and why (`LeftOut`)
    README.md, rows.svg   the dataset card: what is in it, in numbers
    assignments.parquet   (stable_key, split) of every request this dataset or a version before it has ever seen

    ValueError
    ├── DatasetTooSmallError   more labels are needed; says how many
    ├── DatasetCorruptError    a version on disk is not what its manifest says
    └── DetectorsFailedError   it is not known whether rows hold personal data

    rows              what a row is, and what a label that is left out
    personal_data     which rows hold what is not to be learned: a process of its own
    refinement        which rows are fit to learn from
    near_duplicates   which requests are nearly the same
    splits            which are trained on and which are held out
    building          all of that, in order
    card              what is said of it to people
    store             versions on disk
"""

from services.trainer.dataset.building import DatasetPolicy, DatasetTooSmallError, DetectorsFailedError, build_dataset
from services.trainer.dataset.manifest import Manifest
from services.trainer.dataset.rows import LabelledRow, LeftOut, Message, Reason, Split, asked, stable_key
from services.trainer.dataset.store import (
    DatasetCorruptError,
    erase_rows,
    read_left_out,
    read_manifest,
    read_rows,
)

__all__ = [
    "DatasetCorruptError",
    "DatasetPolicy",
    "DatasetTooSmallError",
    "DetectorsFailedError",
    "LabelledRow",
    "LeftOut",
    "Manifest",
    "Message",
    "Reason",
    "Split",
    "asked",
    "build_dataset",
    "erase_rows",
    "read_left_out",
    "read_manifest",
    "read_rows",
    "stable_key",
]
