"""How much is tried: everything with `GYRE_CHAOS=all`, as `make chaos` sets it, else what each run has time for."""

import os

IS_WHOLE = os.environ.get("GYRE_CHAOS") == "all"
