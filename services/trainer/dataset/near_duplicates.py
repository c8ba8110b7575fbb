"""Requests that are nearly the same: found by MinHash, told by Jaccard's index. Pure.

Two requests are near where they have at least `NEAR` of their pairs of neighbouring words in common. MinHash (Broder,
"On the resemblance and containment of documents", 1997) with banding (Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", section 3.4) finds who may be, and each find is then counted out, so that what is said here is no
estimate.

Pairs of words that every fifth request has are left aside, as Broder et al. did with very common shingles ("Syntactic
clustering of the web", 1997): they are a template's. Requests that differ in what they fill into it are not near,
however long it is.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

from schemas.answers import normalise_text

# The 940 distinct requests of the demo's traffic are 934 clusters at 0.7, 936 at 0.8 and 939 at 0.9, none of more than
# two (`python -m benchmarks.refinement`): far from running together, so the lowest is taken. There a request of 13
# words or more may differ in one of them; at 0.8 it takes 19, and most are shorter.
NEAR = 0.7
# A pair of words is a template's where more requests have it than so many, and than this share of all.
COMMON_REQUESTS, COMMON_SHARE = 10, 0.2
# Two requests that are just near are missed about once in a hundred million times: (1 - 0.7 ** 4) ** 66.
BANDS, ROWS = 66, 4

Shingles = frozenset[tuple[str, ...]]
# Words, numbers with their points, each sign of scripts that write no spaces, and all other signs but for sentences'.
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|\w+(?:[.,]\w+)*|[^\w\s.,;:?!'\"]")
_random = np.random.default_rng(1997)
# Multiply-shift hashing: odd multipliers and any addends, modulo 2 ** 64.
_MULTIPLIERS = _random.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_ADDENDS = _random.integers(0, 2**64, BANDS * ROWS, dtype=np.uint64)


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text, in one case and without the marks of its sentences; of one without words, itself."""
    return tuple(_WORD.findall(normalise_text(text))) or (text,)


def near(texts: Mapping[str, str], threshold: float = NEAR) -> dict[str, set[str]]:
    """Return of each text which others are near, by their keys."""
    shingles = _without_common({key: _shingles(text) for key, text in texts.items()})
    found: dict[str, set[str]] = {key: set() for key in texts}
    for alike in _candidates(shingles):
        for one, other in combinations(alike, 2):
            common = len(shingles[one] & shingles[other])
            if common >= threshold * (len(shingles[one]) + len(shingles[other]) - common):
                found[one].add(other)
                found[other].add(one)
    return found


def clusters(neighbours: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the keys in clusters, in which each is near to some other; the clusters and what is in them sorted."""
    found, seen = [], set[str]()
    for key in sorted(neighbours):
        cluster, waiting = [], [key]
        while waiting:
            each = waiting.pop()
            if each not in seen:
                seen.add(each)
                cluster.append(each)
                waiting += neighbours[each] & neighbours.keys()
        if cluster:
            found.append(sorted(cluster))
    return found


def _shingles(text: str) -> Shingles:
    said = words(text)
    return frozenset(pairwise(said)) or frozenset({said})


def _without_common(shingles: Mapping[str, Shingles]) -> dict[str, Shingles]:
    requests = Counter(shingle for each in shingles.values() for shingle in each)
    common = {
        shingle for shingle, count in requests.items() if count > max(COMMON_REQUESTS, COMMON_SHARE * len(shingles))
    }
    # Where nothing else is said, it is the template itself.
    return {key: each - common or each for key, each in shingles.items()}


def _candidates(shingles: Mapping[str, Shingles]) -> Iterator[list[str]]:
    """Yield the keys, two or more, whose signatures are equal in a band, band by band."""
    hashes = {shingle: _hash(shingle) for each in shingles.values() for shingle in each}
    signatures = {key: _signature([hashes[shingle] for shingle in each]) for key, each in shingles.items()}
    for start in range(0, BANDS * ROWS, ROWS):
        alike: defaultdict[bytes, list[str]] = defaultdict(list)
        for key, signature in signatures.items():
            alike[signature[start : start + ROWS].tobytes()].append(key)
        yield from (keys for keys in alike.values() if len(keys) > 1)


def _signature(hashes: Sequence[int]) -> npt.NDArray[np.uint64]:
    """Return of each hash function, (BANDS * ROWS,), the smallest value among the shingles."""
    values = np.array(hashes, np.uint64)[:, None] * _MULTIPLIERS + _ADDENDS
    smallest: npt.NDArray[np.uint64] = np.min(values >> np.uint64(32), axis=0)
    return smallest


def _hash(shingle: tuple[str, ...]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(shingle).encode(), digest_size=8).digest())
