"""Takes the numbers of alt-profanity-check's classifier out of its package: `python -m recipes.toxicity`.

It writes `services/governance/toxicity.npz`. The package holds scikit-learn's own objects, pickled; they are read here
and nowhere else.
"""

import sys

import joblib
import numpy as np

from recipes.environment import packages
from services.governance.domain.toxicity import MODEL


def main() -> None:
    """Read, write."""
    data = packages("corpora") / "profanity_check" / "data"
    vectorizer, model = (joblib.load(data / f"{name}.joblib") for name in ("vectorizer", "model"))
    words = vectorizer.get_feature_names_out()
    folds = [(each.estimator, *each.calibrators) for each in model.calibrated_classifiers_]
    np.savez_compressed(
        MODEL,
        words=words.astype(str),
        idf=vectorizer.idf_.astype(np.float16),
        weights=np.stack([estimator.coef_[0] for estimator, _ in folds], axis=1).astype(np.float16),
        bias=np.array([estimator.intercept_[0] for estimator, _ in folds]),
        slope=np.array([calibration.a_ for _, calibration in folds]),
        offset=np.array([calibration.b_ for _, calibration in folds]),
    )
    print(f"{MODEL} is written: {len(words)} words, {len(folds)} folds", file=sys.stderr)


if __name__ == "__main__":
    main()
