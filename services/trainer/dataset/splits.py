"""Which requests are trained on and which are held out. Pure.

A request's split is decided by the hash of its text the first time it is seen, and stays: neither more labels, nor
another share, nor a request that goes and comes back can bring a held-out request into training. Requests that are near
one another go to one side, and nothing that is near to a held-out request is ever trained on.
"""

from collections.abc import Mapping

from services.trainer.dataset.near_duplicates import clusters
from services.trainer.dataset.rows import Split


def split(neighbours: Mapping[str, set[str]], assigned: Mapping[str, Split], holdout_share: float) -> dict[str, Split]:
    """Return the split of each request; one that may be on neither side has none.

    New requests follow those that they are near to. Where a cluster of them is near to both sides, each follows its own
    neighbours; one that is itself near to both is left out, and so is one to train on that is near to a held-out one:
    from a version that was made before requests were compared, or because of what has come back.

    Args:
        neighbours: The stable keys of all requests, with those of the requests that each is near to.
        assigned: The split of every request seen before.
        holdout_share: Share of new clusters that are held out.
    """
    sides: dict[str, Split] = {key: assigned[key] for key in neighbours if key in assigned}
    for cluster in clusters({key: near for key, near in neighbours.items() if key not in sides}):
        led = {sides[each] for key in cluster for each in neighbours[key] if each in sides}
        decided = _by_hash(cluster[0], holdout_share) if not led else led.pop() if len(led) == 1 else None
        for key in cluster:
            if decided is not None:
                sides[key] = decided
                continue
            own = {sides[each] for each in neighbours[key] if each in sides}
            if len(own) < 2:
                sides[key] = own.pop() if own else _by_hash(key, holdout_share)
    held_out = {key for key, side in sides.items() if side == "holdout"}
    return {key: side for key, side in sides.items() if side == "holdout" or held_out.isdisjoint(neighbours[key])}


def _by_hash(key: str, holdout_share: float) -> Split:
    return "holdout" if int(key[:16], 16) / 2**64 < holdout_share else "train"
