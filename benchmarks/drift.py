"""How soon drift is found and how often it is found where there is none, beside a batch PSI.

    python -m benchmarks.drift [MODELS_DIR]

On generated streams, so that the change is known:

    false alarms   a million values that do not change, of several distributions; the detector's threshold promises at
                   most one in 100,000
    delay          values from the change until the alarm, after 2,000 before it: median and 95th percentile of streams
    found          share of the streams in which it was, within 2,000 values of the change

The population stability index (PSI) compares each window of 500 values with the first 2,000, in ten bins that hold as
many of these (categories as they are). A window begins just at the change, which favours it. It is shown with the usual
threshold of 0.2, and with the one that raises as many false alarms as the detector's promise allows: found on streams
of the same distribution that do not change, which nobody has in practice.

Then the false alarms of a week whose hours differ, and what a value, a request and its embedding take of the processor.
"""

import argparse
import math
import time
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from benchmarks.audit import interactions
from schemas.codecs import codec
from schemas.events import Attempt, Interaction
from schemas.topics import Topic
from services.audit.drift.detector import Detector
from services.audit.drift.watch import Promise, Watch
from services.runtime.conformal import SLOTS
from services.runtime.embeddings import Embedder

PROMISED = 100_000  # values in which at most one false alarm is expected
BEFORE, AFTER = 2_000, 2_000
WINDOW, BINS = 500, 10

Slots = npt.NDArray[np.int64]
Draw = Callable[[np.random.Generator, int], Slots]


def normal(shift: float = 0.0, spread: float = 1.0) -> Draw:
    """Normal values; 16 slots are a standard deviation."""
    return lambda random, count: _slots(64 + 16 * (shift + spread * random.standard_normal(count)))


def heavy_tailed(times: float = 1.0) -> Draw:
    """Values of Pareto's distribution, without a variance, all so many times as high; on a logarithmic scale."""
    return lambda random, count: _slots(8 * np.log(times * (1 + random.pareto(1.5, count))))


def rare(share: float) -> Draw:
    """An event that comes with so large a share of the requests."""
    return lambda random, count: (random.random(count) < share).astype(np.int64)


def names(moved: float = 0.0) -> Draw:
    """Five categories; so large a share has moved from the first to the fourth: the total variation."""
    shares = [0.45 - moved, 0.25, 0.15, 0.1 + moved, 0.05]
    return lambda random, count: random.choice(5, count, p=shares)


def _slots(values: npt.NDArray[np.float64]) -> Slots:
    return np.clip(values.astype(np.int64), 0, SLOTS - 1)


STATIONARY: list[tuple[str, Draw, bool]] = [
    ("normal", normal(), False),
    ("heavy-tailed", heavy_tailed(), False),
    ("1 in 100", rare(0.01), False),
    ("three values, ties", lambda random, count: random.integers(0, 3, count), False),
    ("five categories", names(), True),
]
CHANGES: list[tuple[str, Draw, Draw, bool]] = [
    ("normal, 0.25 sd higher", normal(), normal(0.25), False),
    ("normal, 0.5 sd higher", normal(), normal(0.5), False),
    ("normal, 1 sd higher", normal(), normal(1.0), False),
    ("normal, 2 sd higher", normal(), normal(2.0), False),
    ("normal, spread 1.5 times", normal(), normal(spread=1.5), False),
    ("heavy-tailed, 1.5 times", heavy_tailed(), heavy_tailed(1.5), False),
    ("1 in 100 becomes 3", rare(0.01), rare(0.03), False),
    ("1 in 100 becomes 10", rare(0.01), rare(0.1), False),
    ("categories, variation 0.1", names(), names(0.1), True),
    ("categories, variation 0.2", names(), names(0.2), True),
    ("categories, variation 0.3", names(), names(0.3), True),
]


def main() -> None:
    """Runs everything and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models_dir", type=Path, nargs="?", help="to time embeddings too")
    parser.add_argument("--values", type=int, default=1_000_000, help="that do not change, of each distribution")
    parser.add_argument("--streams", type=int, default=60, help="with a change, of each kind")
    options = parser.parse_args()
    _false_alarms(options.values)
    _delays(options.streams)
    _week()
    _costs(options.models_dir)


def _false_alarms(count: int) -> None:
    print(f"\nFalse alarms in a million values that do not change (detector: at most {1e6 / PROMISED:.0f} promised)")
    print(f"  {'':28}{'detector':>10}{'an hour each':>14}{'PSI >= 0.2':>12}")
    for name, draw, categorical in STATIONARY:
        random = np.random.default_rng(1)
        slots = draw(random, count)
        alone = len(_alarms(Detector(PROMISED, categorical=categorical), slots, 1))
        by_hour = len(_alarms(Detector(PROMISED, categorical=categorical, parts=24), slots, 24))
        index = _indices(slots, categorical)
        per_million = 1e6 / count
        print(
            f"  {name:28}{alone * per_million:10.0f}{by_hour * per_million:14.0f}"
            f"{(index >= 0.2).sum() * 1e6 / (len(index) * WINDOW):12.0f}"
        )


def _delays(streams: int) -> None:
    print(f"\nDelay in values (median, 95 %) and share found within {AFTER:,}, of {streams} streams")
    print(f"  {'':28}{'detector':>22}{'PSI >= 0.2':>22}{'PSI, as many alarms':>24}{'its threshold':>15}")
    for name, before, after, categorical in CHANGES:
        threshold = _matched(before, categorical)
        found: list[list[float]] = [[], [], []]
        for number in range(streams):
            random = np.random.default_rng(number)
            slots = np.concatenate([before(random, BEFORE), after(random, AFTER)])
            alarms = _alarms(Detector(PROMISED, categorical=categorical), slots, 1)
            found[0].append(next((each - BEFORE + 1 for each in alarms if each >= BEFORE), math.inf))
            index = _indices(slots, categorical)
            for delays, limit in zip(found[1:], (0.2, threshold), strict=True):
                over = np.flatnonzero(index >= limit)
                delays.append((over[0] + 1) * WINDOW if len(over) else math.inf)
        columns = "".join(f"{_delay(delays):>{width}}" for delays, width in zip(found, (22, 22, 24), strict=True))
        print(f"  {name:28}{columns}{threshold:15.3f}")


def _delay(delays: Sequence[float]) -> str:
    found = sum(map(math.isfinite, delays)) / len(delays)
    median, late = (sorted(delays)[min(len(delays) - 1, int(share * len(delays)))] for share in (0.5, 0.95))
    return f"{_number(median)}, {_number(late)} ({found:.0%})"


def _number(delay: float) -> str:
    return f"{delay:.0f}" if math.isfinite(delay) else "-"


def _alarms(detector: Detector, slots: Slots, parts: int) -> list[int]:
    random = Random(2)
    return [
        number
        for number, slot in enumerate(slots.tolist())
        if detector.observe(slot, float(slot), float(number), random.random(), number % parts) is not None
    ]


def _indices(slots: Slots, categorical: bool) -> npt.NDArray[np.float64]:
    """Returns the PSI of each window after the first `BEFORE` values, against these."""
    reference, rest = slots[:BEFORE], slots[BEFORE:]
    deciles = np.unique(np.quantile(reference, np.arange(1, BINS) / BINS))
    # Of names, and of numbers of which there are only a few, each is a bin of its own.
    cuts = np.arange(1, SLOTS) if categorical or len(deciles) < BINS / 2 else deciles
    bins = len(cuts) + 1

    def shares(values: Slots) -> npt.NDArray[np.float64]:
        counts = np.bincount(np.searchsorted(cuts, values, side="right"), minlength=bins)
        return np.maximum(counts / len(values), 1e-4)  # as is usual, for a bin that is empty

    expected = shares(reference)
    windows = rest[: len(rest) // WINDOW * WINDOW].reshape(-1, WINDOW)
    return np.array([((actual - expected) * np.log(actual / expected)).sum() for actual in map(shares, windows)])


def _matched(draw: Draw, categorical: bool) -> float:
    """Returns the PSI that as many windows without a change reach as the detector's promise allows alarms."""
    random = np.random.default_rng(99)
    index = np.concatenate([_indices(draw(random, BEFORE + 20 * WINDOW), categorical) for _ in range(300)])
    return float(np.quantile(index, 1 - WINDOW / PROMISED))


def _week() -> None:
    print("\nA week of 2,000 requests a day, more by day; the mean moves by so many sd between noon and midnight")
    print(f"  {'':28}{'any hour with any':>20}{'an hour with itself':>22}{'1 sd on day 6 found after':>28}")
    for swing in (0.0, 0.5, 1.0, 2.0):
        alone, _ = _season(swing, 1, 0.0)
        by_hour, _ = _season(swing, 24, 0.0)
        _, found = _season(swing, 24, 1.0)
        minutes = f"{found * 1440:.0f} minutes" if found is not None else "-"
        print(f"  {f'{swing:g} sd':28}{alone:>13} alarms{by_hour:>15} alarms{minutes:>28}")


def _season(swing: float, parts: int, shift: float) -> tuple[int, float | None]:
    """Returns the alarms before a shift in the morning of the sixth day, and how many days after it the first came."""
    random, detector, now, changed, alarms = Random(3), Detector(PROMISED, parts=parts), 0.0, 5.4, 0
    while now < 7:
        wave = math.sin(2 * math.pi * (now - 0.3))
        now += random.expovariate(2000 * (1 + 0.8 * wave))
        mean = swing / 2 * wave + (shift if now > changed else 0)
        slot = max(0, min(SLOTS - 1, int(64 + 16 * random.gauss(mean))))
        if detector.observe(slot, 0.0, 86_400 * now, random.random(), int(now * 24) % parts) is not None:
            if shift and now > changed:
                return alarms, now - changed
            alarms += 1
    return alarms, None


def _costs(models_dir: Path | None) -> None:
    print("\nProcessor time")
    for name, draw, categorical in (STATIONARY[0], STATIONARY[-1]):
        slots = draw(np.random.default_rng(1), 50_000)
        print(f"  {f'a value, {name}':44}{_micros(lambda s=slots, c=categorical: _observe(s, c)) / 50_000:8.1f} us")  # type: ignore[misc]
    values = interactions(5_000)
    decode = codec(Topic.INTERACTIONS).decode
    print(f"  {'decoding a request':44}{_micros(lambda: [decode(each) for each in values]) / 5_000:8.1f} us")
    requests = [_asked(decode(each), number) for number, each in enumerate(values)]
    print(f"  {'a request, 12 values, no embedding':44}{_micros(lambda: _watch(requests, None)) / 5_000:8.1f} us")
    if models_dir is not None:
        embed = Embedder(models_dir).embed
        micros = _micros(lambda: _watch(requests, embed)) / 5_000
        print(f"  {'a request, 14 values, with its embedding':44}{micros:8.1f} us")
    tracemalloc.start()
    kept = _watch(requests, None)
    print(f"  {'memory of a tenant with a task and a model':44}{tracemalloc.get_traced_memory()[0] / 1024:8,.0f} KiB")
    del kept


def _observe(slots: Slots, categorical: bool) -> None:
    _alarms(Detector(PROMISED, categorical=categorical), slots, 1)


def _micros(work: Callable[[], object]) -> float:
    """Returns the microseconds of processor that something takes, the least of three times."""
    times = []
    for _ in range(3):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return 1e6 * min(times)


def _asked(request: Interaction, number: int) -> Interaction:
    """Returns a request as the router writes it: with the language and the attempt; the requests take a day."""
    attempt = Attempt(model="small", model_version="1", tier="small", outcome="answered", start_us=0, duration_us=9000)
    return replace(
        request,
        language="en",
        attempts=(attempt,),
        received_at=request.received_at + timedelta(seconds=number * 86_400 / 5_000),
    )


def _watch(requests: Sequence[Interaction], embed: Callable[[Sequence[str]], npt.NDArray[np.float32]] | None) -> Watch:
    watch = Watch(Promise(requests_per_false_alarm=100_000, parts=24, streams=500), embed, Random(1).random)
    for request in requests:
        watch.observe(request, None)
    return watch


if __name__ == "__main__":
    main()
