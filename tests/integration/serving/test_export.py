"""An export, opened by what others use and by nothing of Gyre: it gives the same answers, within what is said here.

The reference is base and adapter in transformers and peft, 100 chats, 8 tokens each, greedily.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.numpy import save_file

from embedded.ports import stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from gyre.demo.traffic import traffic
from gyre.exports import verify
from schemas.exports import folder_sha256
from services.serving.exporting import FolderExporter
from tests.unit.serving.conftest import CANDIDATE, DEPLOYMENT, MANIFEST, REPORT

pytestmark = pytest.mark.timeout(900)

OUTSIDE = Path(__file__).parent / "outside"
# What README says was measured with 100; these take a third of the time and tell as well whether something is wrong.
CHATS = int(os.environ.get("GYRE_EXPORT_CHATS", "32"))
RANK, LAYERS, STRENGTH = 16, range(10, 30), 0.02
SHAPES = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}
Answers = list[dict[str, Any]]


def write_adapter(folder: Path) -> None:
    """An adapter of the size and for the layers that are trained on CPU, which changes most answers."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True)
    weights = {}
    for layer in LAYERS:
        for module, (rows, columns) in SHAPES.items():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            weights[f"{prefix}.lora_A.weight"] = rng.normal(size=(RANK, columns)) / columns**0.5
            weights[f"{prefix}.lora_B.weight"] = rng.normal(size=(rows, RANK)) * STRENGTH
    stored = {name: each.astype(np.float32) for name, each in weights.items()}
    save_file(stored, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": [module.rpartition(".")[2] for module in SHAPES],
        "layers_to_transform": list(LAYERS),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def folder(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that has been moved since it was made."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    write_adapter(artifacts / CANDIDATE.adapter_path)
    (artifacts / CANDIDATE.adapter_path).with_name("report.html").write_bytes(REPORT)
    dataset = artifacts / CANDIDATE.tenant / CANDIDATE.task / "datasets" / CANDIDATE.dataset_id
    dataset.mkdir(parents=True)
    (dataset / "manifest.json").write_text(json.dumps(MANIFEST))
    candidate = replace(CANDIDATE, adapter_sha256=folder_sha256(artifacts / CANDIDATE.adapter_path))
    made, _ = FolderExporter(models, artifacts, parallel=2, context_tokens=1024).export(candidate, DEPLOYMENT)
    moved = tmp_path_factory.mktemp("elsewhere") / "export"
    shutil.move(artifacts / made, moved)
    return moved


@pytest.fixture(scope="module")
def chats() -> list[list[dict[str, str]]]:
    prompt = {"role": "system", "content": CANDIDATE.system_prompt}
    return [[prompt, request.messages[-1]] for request in traffic()[:CHATS]]


@pytest.fixture(scope="module")
def reference(folder: Path, chats: Any) -> Answers:
    return run(sys.executable, "with_transformers.py", folder, chats)


def run(python: str | Path, script: str, opened: Path, chats: Any) -> Answers:
    """What a script that knows nothing of Gyre makes of something in an export."""
    command = [python, OUTSIDE / script, opened]
    done = subprocess.run(command, input=json.dumps(chats), cwd=opened.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Agreement:
    """How often the same token is chosen after the same ones, and how far apart its log-probabilities are there."""

    share: float
    mean: float
    most: float


def agreement(reference: Answers, others: Answers) -> Agreement:
    same, different, apart = 0, 0, []
    for wanted, found in zip(reference, others, strict=True):
        pairs = zip(wanted["tokens"], found["tokens"], strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        same, different = same + common, different + (wanted["tokens"] != found["tokens"])
        apart += np.subtract(wanted["adapted"]["logprobs"][:common], found["logprobs"][:common]).tolist()
    return Agreement(same / (same + different), float(np.abs(apart).mean()), float(np.abs(apart).max()))


@pytest.fixture
def measured(reference: Answers, record_property: Callable[[str, object], None]) -> Callable[[Answers], Agreement]:
    """Holds answers to the reference; what comes of it stands in the report of the run (--junit-xml)."""

    def measure(others: Answers) -> Agreement:
        found = agreement(reference, others)
        record_property("agreement", found)
        return found

    return measure


def test_an_export_of_the_real_base_is_whole(folder: Path) -> None:
    assert verify(folder) == []


def test_the_merged_model_is_base_and_adapter(reference: Answers, measured: Callable[[Answers], Agreement]) -> None:
    found = measured([answer["merged"] for answer in reference])
    assert found.share > 0.999
    assert found.most < 1e-3
    some = [answer for answer in reference if "base" in answer]
    assert agreement(some, [answer["base"] for answer in some]).share < 0.9


@pytest.mark.parametrize(("kind", "share", "mean"), [("F16", 0.99, 0.01), ("Q8_0", 0.93, 0.1)])
def test_llama_cpp_answers_alike(
    folder: Path,
    chats: Any,
    stack: Stack,
    measured: Callable[[Answers], Agreement],
    kind: str,
    share: float,
    mean: float,
) -> None:
    gguf = folder / "gguf" / f"model.{kind}.gguf"
    found = measured(run(stack.settings.triton_python, "with_llama_cpp.py", gguf, chats))
    assert found.share > share
    assert found.mean < mean


@pytest.fixture(scope="module")
def bare_triton(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Triton of its own on the exported repository, by the address of its HTTP port."""
    stack = Stack(Settings(state_dir=tmp_path_factory.mktemp("triton"), ports=stack_ports()))
    stack.settings.triton_repository.parent.mkdir()
    stack.settings.triton_repository.symlink_to(folder / "triton" / "cpu")
    stack.start(("triton",))
    yield stack.settings.address("GYRE_EMBEDDED_TRITON_HTTP_PORT")
    stack.stop()


def test_a_bare_triton_answers_alike(bare_triton: str, chats: Any, measured: Callable[[Answers], Agreement]) -> None:
    model = f"http://{bare_triton}/v2/models/{DEPLOYMENT.model}"
    post(model.replace("models", "repository/models") + "/load", {})
    sampling = json.dumps({"temperature": 0, "max_tokens": 8, "logprobs": True})
    answers = []
    for messages in chats:
        answer = post(f"{model}/generate", {"text_input": json.dumps(messages), "sampling_parameters": sampling})
        tokens = json.loads(answer["usage"])["tokens"]
        answers.append({"tokens": [each["token"] for each in tokens], "logprobs": [each["logprob"] for each in tokens]})
    found = measured(answers)
    assert found.share > 0.93
    assert found.mean < 0.1


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        content = response.read()
    return json.loads(content) if content else {}


def test_what_the_model_card_shows_for_transformers_runs_in_the_folder(folder: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", "\n".join(examples)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
