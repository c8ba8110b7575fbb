"""The learning itself, in this process and without Ray."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.trainer.dataset import LabelledRow, Message, read_rows
from services.trainer.training.cached_activations import CachedActivations
from services.trainer.training.configuration import RunSpecification, TrainingConfiguration
from services.trainer.training.examples import encode, training_set
from services.trainer.training.loop import alone, train
from services.trainer.training.model import (
    IGNORED,
    Base,
    CompletionLogprobs,
    add_lora,
    load_adapter,
    load_tokenizer,
)
from services.trainer.training.progress import Progress


class _KilledError(Exception):
    pass


def _train(
    specification: RunSpecification, folder: Path, *, kill_after: int | None = None, resume_from: Path | None = None
) -> dict[str, Any]:
    """Trains with checkpoints under `folder`; dies on the checkpoint after `kill_after`, as a killed worker would."""
    folder.mkdir(exist_ok=True)
    reported: list[dict[str, Any]] = []

    def save_checkpoint(fill: Callable[[Path], None], metrics: dict[str, Any]) -> None:
        if len(reported) == kill_after:
            raise _KilledError
        checkpoint = folder / "checkpoint"
        shutil.rmtree(checkpoint, ignore_errors=True)
        checkpoint.mkdir()
        fill(checkpoint)
        reported.append(metrics)

    train(
        specification,
        work_dir=folder,
        progress=Progress(folder),
        worker=alone(),
        resume_from=resume_from,
        save_checkpoint=save_checkpoint,
    )
    return reported[-1]


@pytest.fixture
def specification(base: Path, dataset: Path, configuration: TrainingConfiguration) -> RunSpecification:
    return RunSpecification(dataset=str(dataset), base=str(base), configuration=configuration, seed=1)


def _with(specification: RunSpecification, **changes: Any) -> RunSpecification:
    return msgspec.structs.replace(
        specification, configuration=msgspec.structs.replace(specification.configuration, **changes)
    )


def _adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "adapter" / "adapter_model.safetensors")


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _logprob_of(specification: RunSpecification, folder: Path) -> Callable[[LabelledRow], float]:
    """How likely the whole base finds a row's completion with the adapter of a run, in nats."""
    base = Base.load(Path(specification.base), 1.0, torch.float32)
    model = PeftModel.from_pretrained(base.causal_lm, str(folder / "checkpoint" / "adapter"))
    logprobs_of, tokenizer = CompletionLogprobs(base, model), load_tokenizer(Path(specification.base))

    def logprob(row: LabelledRow) -> float:
        example = encode(row, tokenizer)
        ids = torch.tensor([example.token_ids])
        labels = ids.clone()
        labels[:, : example.prompt_tokens] = IGNORED
        with torch.no_grad():
            return float(logprobs_of(ids, labels, "input_ids"))

    return logprob


@pytest.mark.parametrize("depth", [1 / 3, 2 / 3, 1.0])
def test_peft_puts_the_adapter_on_the_whole_base_and_gets_the_trained_models_logits(
    specification: RunSpecification, tmp_path: Path, depth: float
) -> None:
    _train(_with(specification, trained_depth=depth), tmp_path)
    folder = tmp_path / "checkpoint" / "adapter"
    ids = torch.arange(40).unsqueeze(0)

    split = Base.load(Path(specification.base), depth, torch.float32)
    with split.only_lower(), torch.no_grad():
        hidden = split.decoder(input_ids=ids).last_hidden_state
    split.drop_lower()
    adapted = add_lora(split, rank=4, alpha=8)
    load_adapter(adapted, folder)
    whole = AutoModelForCausalLM.from_pretrained(specification.base)
    plain = whole(input_ids=ids).logits
    loaded = PeftModel.from_pretrained(whole, str(folder))
    with torch.no_grad():
        trained = split.head(split.decoder(inputs_embeds=hidden).last_hidden_state)
        served = loaded(input_ids=ids).logits
    assert torch.allclose(served, trained, atol=1e-5)
    assert not torch.allclose(served, plain, atol=1e-2)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"


def test_the_loss_falls_and_the_metrics_tell_what_was_done(specification: RunSpecification, tmp_path: Path) -> None:
    metrics = _train(specification, tmp_path)
    assert metrics["loss_per_epoch"][-1] < 0.8 * metrics["loss_per_epoch"][0]
    assert len(metrics["loss_per_step"]) == metrics["steps"]
    rows = read_rows(Path(specification.dataset), "train")
    tokenizer = load_tokenizer(Path(specification.base))
    assert metrics["rows"] == metrics["examples"] == len(rows)
    assert metrics["tokens"] == 4 * sum(len(encode(row, tokenizer).token_ids) for row in rows)
    assert (metrics["layers"], metrics["first_trained_layer"]) == (3, 1)
    assert metrics["label_ids_too_long"] == []


def test_in_bfloat16_the_loss_falls_too_and_the_adapter_stays_float32(
    specification: RunSpecification, tmp_path: Path
) -> None:
    metrics = _train(_with(specification, precision="bfloat16"), tmp_path)
    assert metrics["loss_per_epoch"][-1] < 0.8 * metrics["loss_per_epoch"][0]
    assert {tensor.dtype for tensor in _adapter(tmp_path).values()} == {torch.float32}


def test_with_mentions_replaced_every_epoch_takes_each_row_once_and_the_same_way_in_another_process(
    base: Path, configuration: TrainingConfiguration
) -> None:
    rows = [
        LabelledRow(
            request_id=name,
            label_id=name,
            labelled_at_ms=0,
            tenant="retail",
            task="films",
            sensitivity="internal",
            source="expert",
            messages=(Message("user", f"Something by {name}"),),
            completion=json.dumps({"name": "find", "arguments": {"director": name}}),
        )
        for name in ("Henson", "Bigelow", "Varda", "Ozu", "Kurosawa", "Akerman")
    ]
    tokenizer = load_tokenizer(base)
    replaced = msgspec.structs.replace(configuration, replaced_mentions=0.7)
    learned = training_set(rows, tokenizer, replaced, seed=0)
    assert [[learned.examples[i].label_id for i in epoch] for epoch in learned.epochs] == [
        [row.label_id for row in rows]
    ] * configuration.epochs
    assert len({tuple(epoch) for epoch in learned.epochs}) == configuration.epochs
    assert len(set(learned.examples)) == len(learned.examples) > len(rows)
    assert training_set(rows, tokenizer, replaced, seed=0) == learned != training_set(rows, tokenizer, replaced, seed=1)


@pytest.mark.parametrize("depth", [2 / 3, 1.0])
def test_by_preferences_what_was_corrected_becomes_less_likely_beside_its_correction(
    specification: RunSpecification, tmp_path: Path, depth: float
) -> None:
    corrected = [row for row in read_rows(Path(specification.dataset), "train") if row.rejected]

    def margin(weight: float) -> float:
        """By how many nats corrections are likelier than what they corrected, in the mean."""
        folder = tmp_path / str(weight)
        metrics = _train(_with(specification, trained_depth=depth, preference_weight=weight), folder)
        assert metrics["preferences"] == (len(corrected) if weight else 0)
        logprob = _logprob_of(specification, folder)
        others = [msgspec.structs.replace(row, completion=row.rejected) for row in corrected]
        return sum(map(logprob, corrected)) / len(corrected) - sum(map(logprob, others)) / len(others)

    assert margin(1.0) > margin(0.0) + 5


def test_a_preference_costs_what_dpo_says_it_does(specification: RunSpecification, tmp_path: Path) -> None:
    """Before the first step nothing is preferred yet: each correction costs log 2, beside what its answer costs."""
    one_batch = {"batch_size": 40, "epochs": 1, "forward_tokens": 100_000}
    rows = read_rows(Path(specification.dataset), "train")
    (plain,) = _train(_with(specification, **one_batch), tmp_path / "plain")["loss_per_step"]
    (preferring,) = _train(_with(specification, **one_batch, preference_weight=2.0), tmp_path / "dpo")["loss_per_step"]
    share = sum(bool(row.rejected) for row in rows) / len(rows)
    assert preferring - plain == pytest.approx(2.0 * share * math.log(2), abs=1e-4)


def test_a_run_ends_when_rows_that_it_does_not_learn_from_become_less_likely_with_the_adapter_of_before(
    specification: RunSpecification, tmp_path: Path
) -> None:
    specification = _with(specification, validation_share=0.3, patience=2, epochs=60, learning_rate=3e-2)
    metrics = _train(specification, tmp_path)
    losses = metrics["validation_loss_per_epoch"]
    assert len(losses) < 60
    assert losses.index(min(losses)) == len(losses) - 3
    rows = {row.label_id: row for row in read_rows(Path(specification.dataset), "train")}
    tokenizer = load_tokenizer(Path(specification.base))
    learned = training_set(list(rows.values()), tokenizer, specification.configuration, specification.seed)
    apart = [learned.examples[index] for index in learned.validation]
    taught = {learned.examples[index].label_id for epoch in learned.epochs for index in epoch}
    assert taught | {example.label_id for example in apart} == set(rows)
    assert taught.isdisjoint(example.label_id for example in apart)
    logprob = _logprob_of(specification, tmp_path)
    loss = -sum(logprob(rows[example.label_id]) for example in apart)
    assert loss / sum(example.completion_tokens for example in apart) == pytest.approx(min(losses), abs=1e-3)

    ended = _adapter(tmp_path)
    train(
        specification,
        work_dir=tmp_path,
        progress=Progress(tmp_path),
        worker=alone(),
        resume_from=tmp_path / "checkpoint",
        save_checkpoint=lambda *_: pytest.fail("a run that has ended goes on"),
    )
    assert _equal(_adapter(tmp_path), ended)


def test_the_adapters_b_matrices_learn_faster_by_the_lora_plus_ratio(
    specification: RunSpecification, tmp_path: Path
) -> None:
    """After AdamW's first step every weight has moved by its rate, and B, which began at zero, is there."""
    one_step = {"epochs": 1, "batch_size": 40, "warmup_steps": 1, "learning_rate": 1e-3}
    _train(_with(specification, **one_step), tmp_path / "plain")
    _train(_with(specification, **one_step, lora_plus_ratio=4.0), tmp_path / "plus")
    plain, plus = _adapter(tmp_path / "plain"), _adapter(tmp_path / "plus")
    for name in plain:
        if "lora_B" in name:
            assert torch.allclose(plus[name], 4 * plain[name], atol=1e-5)


def test_training_the_upper_layers_on_cached_activations_is_training_them_in_the_whole_model(
    specification: RunSpecification, tmp_path: Path
) -> None:
    """The first step's loss, and so the cached activations, agree with the base's own loss on those rows."""
    one_batch = _with(specification, batch_size=40, epochs=1)
    metrics = _train(one_batch, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(specification.base)
    tokenizer = AutoTokenizer.from_pretrained(specification.base)
    total, count = 0.0, 0
    for row in read_rows(Path(specification.dataset), "train"):
        example = encode(row, tokenizer)
        ids = torch.tensor([example.token_ids])
        labels = ids.clone()
        labels[:, : example.prompt_tokens] = -100
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels).loss) * example.completion_tokens
        count += example.completion_tokens
    assert metrics["loss_per_step"] == [pytest.approx(total / count, abs=1e-3)]


def test_the_same_seed_gives_the_same_adapter_and_another_one_does_not(
    specification: RunSpecification, tmp_path: Path
) -> None:
    _train(specification, tmp_path / "a")
    _train(specification, tmp_path / "b")
    _train(msgspec.structs.replace(specification, seed=2), tmp_path / "c")
    assert _equal(_adapter(tmp_path / "a"), _adapter(tmp_path / "b"))
    assert not _equal(_adapter(tmp_path / "a"), _adapter(tmp_path / "c"))


@pytest.mark.parametrize("changes", [{}, {"preference_weight": 1.0}, {"validation_share": 0.3}], ids=str)
def test_a_killed_run_goes_on_from_its_checkpoint_and_ends_as_if_nothing_had_been(
    specification: RunSpecification, tmp_path: Path, changes: dict[str, Any]
) -> None:
    specification = _with(specification, **changes)
    unbroken = _train(specification, tmp_path / "a")
    with pytest.raises(_KilledError):
        _train(specification, tmp_path / "b", kill_after=2)
    resumed = _train(specification, tmp_path / "b", resume_from=tmp_path / "b" / "checkpoint")
    assert _equal(_adapter(tmp_path / "a"), _adapter(tmp_path / "b"))
    assert resumed["loss_per_step"] == unbroken["loss_per_step"]
    assert resumed["validation_loss_per_epoch"] == unbroken["validation_loss_per_epoch"]
    assert (unbroken["resumed"], resumed["resumed"]) == (0, 1)
    caching = (tmp_path / "b" / "progress.jsonl").read_text().count('"caching"')
    assert caching == (tmp_path / "a" / "progress.jsonl").read_text().count('"caching"'), "cached once, for both starts"


def test_a_lora_layer_as_one_operation_computes_what_pefts_own_does(base: Path) -> None:
    model = add_lora(Base.load(base, 1.0, torch.float32), rank=4, alpha=8)
    adapter = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    for weight in adapter.values():
        torch.nn.init.normal_(weight, std=0.1)  # PEFT begins with zeros, which would hide half of it

    def loss_and_gradients() -> list[torch.Tensor]:
        loss = model(input_ids=torch.tensor([[1, 2, 3], [4, 5, 6]])).logits.square().mean()
        return [loss.detach(), *torch.autograd.grad(loss, list(adapter.values()))]

    ours = loss_and_gradients()
    replaced = [module for module in model.modules() if "forward" in vars(module)]
    for module in replaced:
        del module.forward
    assert replaced
    torch.testing.assert_close(ours, loss_and_gradients())


def test_rows_that_are_too_long_are_left_out_by_name(specification: RunSpecification, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(specification.base)
    lengths = {
        row.label_id: len(encode(row, tokenizer).token_ids) for row in read_rows(Path(specification.dataset), "train")
    }
    limit = sorted(lengths.values())[len(lengths) // 2]
    metrics = _train(_with(specification, max_tokens=limit), tmp_path)
    assert sorted(metrics["label_ids_too_long"]) == sorted(key for key, length in lengths.items() if length > limit)
    assert metrics["rows"] + len(metrics["label_ids_too_long"]) == len(lengths)
    with pytest.raises(ValueError, match=r"rows are longer than max_tokens \(5\)"):
        _train(_with(specification, max_tokens=5), tmp_path)


def test_cached_activations_are_not_begun_without_the_disk_for_them(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = LabelledRow(
        request_id="r", label_id="l", labelled_at_ms=0, tenant="t", task="t", sensitivity="public", source="s",
        messages=(Message("user", "Hi"),), completion="Hello",
    )  # fmt: skip
    example = encode(row, AutoTokenizer.from_pretrained(base))
    cached = CachedActivations(tmp_path / "activations.bin", [example], 32, torch.float32)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(OSError, match=r"cached activations need [\d,]+ bytes .* which has 100 free"):
        cached.compute(Base.load(base, 2 / 3, torch.float32), forward_tokens=1, report=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_does_more_than_its_layers_is_refused(base: Path) -> None:
    model = Base.load(base, 2 / 3, torch.float32)
    model.check_cut([1, 2, 3])

    def scale_logits(_module: object, _inputs: object, output: Any) -> Any:
        output.logits = output.logits * 3
        return output

    model.causal_lm.register_forward_hook(scale_logits)
    with pytest.raises(ValueError, match="a Llama-like model is wanted"):
        model.check_cut([1, 2, 3])


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match=r"^base: .* cannot be loaded"):
        Base.load(tmp_path, 1.0, torch.float32)
