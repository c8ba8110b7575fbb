"""Makes the classifier of injections that governance ships: `python -m recipes.injection`.

It writes `services/governance/injections.npz`, in some two minutes. `python -m benchmarks.classifiers` measures it.
"""

import base64
import codecs
import hashlib
import random
import sys
from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from recipes.corpora import PHRASES, attacks, ordinary
from services.governance.domain.folding import fold
from services.governance.domain.injections import BUCKETS_LOG2, MODEL, WINDOW, Classifier, buckets, words_of

# An attack that is written so that guardrails pass over it and a model does not.
HIDDEN: tuple[Callable[[str], str], ...] = (
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: text.encode().hex(),
    lambda text: codecs.encode(text, "rot13"),
    lambda text: text[::-1],
    lambda text: text.translate(str.maketrans("aeiostAEIOST", "431057431057")),
)
HIDDEN_TEXTS = 200
HIDDEN_CHARACTERS = 150
# Both were chosen on halves of the texts that are fitted to: recall at the same share of false alarms.
INVERSE_REGULARISATION = 10.0
BASTION_WEIGHT = 3  # its texts are few, and of more kinds than the others
ROUNDS = 3
# Share of ordinary requests, in folds not fitted to, that the threshold lets be taken for attacks. Longer texts have
# more places that look like one.
FALSE_ALARMS = 0.005
LONGEST_REQUEST = 1000

Windows = list[NDArray[np.int32]]


def main() -> None:
    """Fit, find the threshold, fit to all, write."""
    malicious, benign = attacks(), ordinary()
    for name, sources in (("attacks", malicious), ("ordinary", benign)):
        print(name, {source: len(texts) for source, texts in sources.items()}, file=sys.stderr)
    attacking, plain = (
        [text for source, each in texts.items() for text in each * (BASTION_WEIGHT if source == "bastion" else 1)]
        for texts in (malicious, benign)
    )
    attacking += _hidden([*malicious["phrases"], *malicious["spikee"], *malicious["bastion"]])
    plain += _hidden(plain)
    probabilities: list[float] = []
    for fold_of in (0, 1):
        print(f"fold {fold_of + 1} of 2", file=sys.stderr)
        classifier = _fitted(attacking, plain[fold_of::2])
        requests = [text for text in plain[1 - fold_of :: 2] if len(text) <= LONGEST_REQUEST]
        probabilities += [classifier.strongest(words_of(fold(text).text))[0] for text in requests]
    threshold = float(np.quantile(probabilities, 1 - FALSE_ALARMS))
    print(f"threshold {threshold:.3f}; fitting to all", file=sys.stderr)
    _fitted(attacking, plain, threshold).save(MODEL, phrases=hashlib.sha256(PHRASES.read_bytes()).hexdigest())
    print(f"{MODEL} is written", file=sys.stderr)


def _hidden(texts: Sequence[str]) -> list[str]:
    choose = random.Random(0)
    hidden = []
    for hide in HIDDEN:
        for text in choose.sample(texts, HIDDEN_TEXTS):
            begin = choose.randrange(3)  # base64 writes a text in one of three ways, by where it begins
            hidden.append(f"Note {choose.randrange(999)}: {hide('x' * begin + text[:HIDDEN_CHARACTERS])}")
    return hidden


def _fitted(malicious: Sequence[str], benign: Sequence[str], threshold: float = 0.5) -> Classifier:
    """Fit the weights.

    Of a long attack most windows are harmless, so it is known by the two that look worst so far (as in MI-SVM, Andrews
    et al. 2002). Every attack weighs the same, and both sides together weigh the same.
    """
    attacking = [_windows(text) for text in malicious]
    plain = _matrix([window for text in benign for window in _windows(text)])
    worst = [list(range(len(windows))) for windows in attacking]
    weights = np.zeros(2**BUCKETS_LOG2, np.float32)
    for _ in range(ROUNDS):
        chosen = _matrix([attacking[i][j] for i, windows in enumerate(worst) for j in windows])
        shares = np.concatenate([np.full(len(windows), 1 / len(windows)) for windows in worst])
        rows = plain.shape[0]
        model = LogisticRegression(C=INVERSE_REGULARISATION, solver="liblinear", random_state=0, max_iter=200)
        model.fit(
            scipy.sparse.vstack([chosen, plain]),
            np.concatenate([np.ones(len(shares)), np.zeros(rows)]),
            sample_weight=np.concatenate([shares, np.full(rows, shares.sum() / rows)]),
        )
        weights = (model.coef_[0] * SCALE).astype(np.float32)
        scores = [[float(weights[window].sum()) for window in windows] for windows in attacking]
        worst = [sorted(range(len(each)), key=lambda j, each=each: -each[j])[:2] for each in scores]  # type: ignore[misc]
    return Classifier(weights, float(model.intercept_[0]), threshold)


# A count of one in a row; it makes rows of some length 1, which is what the regularisation is meant for.
SCALE = WINDOW**-0.5


def _windows(text: str) -> Windows:
    words = words_of(fold(text).text)
    found = buckets(words)
    starts = range(0, max(1, len(words) - WINDOW // 2), WINDOW // 2)
    return [
        np.concatenate([np.zeros(0), *(grams[start : start + WINDOW] for grams in found)]).astype(np.int32)
        for start in starts
    ]


def _matrix(windows: Windows) -> scipy.sparse.csr_matrix:
    ends = np.cumsum([0, *(len(window) for window in windows)])
    counts = np.full(ends[-1], SCALE)
    matrix = scipy.sparse.csr_matrix((counts, np.concatenate(windows), ends), shape=(len(windows), 2**BUCKETS_LOG2))
    matrix.sum_duplicates()
    return matrix


if __name__ == "__main__":
    main()
