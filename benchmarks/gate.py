"""What the gate lets through: `python -m benchmarks.gate`, a minute.

Candidates that are no better than the incumbent, and such as are right on 5, 10 and 20 of 100 requests more, are held
against it on hold-outs of different sizes, 1,000 gates each. How hard a request is, is drawn by chance and the same for
both models, so that they fail on much the same ones. Beside it the paired bootstrap alone, at 95 %.
"""

import argparse

import numpy as np

from services.trainer.gate import GateRule, judge, paired_bootstrap

ITEMS = (50, 100, 200, 400, 800, 1600)
GAINS = (0.0, 0.05, 0.10, 0.20)
# How many candidates before it were refused.
ATTEMPTS = (1, 5)
# Requests differ: of so many each, as a Beta distribution has it, half of the variance of right and wrong is theirs.
SPREAD = 1.0


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", type=float, default=0.6, help="of the incumbent")
    parser.add_argument("--gates", type=int, default=1000)
    options = parser.parse_args()
    print(f"promoted of {options.gates} gates, the incumbent right on {options.accuracy:.0%}")
    print(f"{'held out':>8}  {'gain':>5}  " + "  ".join(f"candidate {n}" for n in ATTEMPTS) + "  bootstrap alone")
    for items in ITEMS:
        for gain in GAINS:
            seed = np.random.default_rng(items)
            counts = np.zeros(len(ATTEMPTS) + 1)
            for _ in range(options.gates):
                counts += _gate(options.accuracy, gain, items, seed)
            shares = counts / options.gates
            print(
                f"{items:8}  {gain:5.0%}  "
                + "  ".join(f"{share:11.1%}" for share in shares[:-1])
                + f"  {shares[-1]:15.1%}"
            )


def _gate(accuracy: float, gain: float, items: int, source: np.random.Generator) -> list[bool]:
    difficulty = source.beta(accuracy * SPREAD, (1 - accuracy) * SPREAD, items)
    incumbent = (source.random(items) < difficulty).tolist()
    better = source.random(items) < gain / (1 - accuracy)  # of what it failed on
    candidate = ((source.random(items) < difficulty) | better).tolist()
    promoted = [judge(candidate, incumbent, GateRule(attempt=attempt)).promote for attempt in ATTEMPTS]
    lower, _ = paired_bootstrap(candidate, incumbent, confidence=0.95)
    return [*promoted, lower > 0]


if __name__ == "__main__":
    main()
