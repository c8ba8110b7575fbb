"""A base model small enough to train in a test, made here and not downloaded."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from services.trainer.dataset import DatasetPolicy, LabelledRow, Message, build_dataset
from services.trainer.training.configuration import TrainingConfiguration

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def make_base(folder: Path, layers: int = 3, **config: float) -> Path:
    """Writes a random Llama with a tokenizer of bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(7)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            initializer_range=0.2,  # the default is so small that a frozen random model has nothing to say
            **config,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        LabelledRow(
            request_id=f"request-{n}",
            label_id=f"label-{n}",
            labelled_at_ms=n,
            tenant="retail",
            task="orders",
            sensitivity="internal",
            source="expert-1",
            messages=(Message("system", "Answer."), Message("user", f"Where is {'order ' * (n % 3)}{n}?")),
            completion=f'{{"name": "track", "arguments": {{"order": {n}}}}}',
            rejected=f'{{"name": "cancel", "arguments": {{"order": {n}}}}}' if n % 2 else "",
        )
        for n in range(40)
    ]
    policy = DatasetPolicy(holdout_share=0.2, minimum_train_rows=1, minimum_holdout_rows=1)
    return build_dataset(rows, policy, tmp_path_factory.mktemp("datasets"), created_at_ms=0)


@pytest.fixture
def configuration() -> TrainingConfiguration:
    return TrainingConfiguration(
        name="tiny",
        trained_depth=2 / 3,
        precision="float32",
        lora_rank=4,
        lora_alpha=8,
        learning_rate=1e-2,
        lora_plus_ratio=1.0,
        adam_beta2=0.999,
        replaced_mentions=0.0,
        preference_weight=0.0,
        preference_beta=0.1,
        warmup_steps=2,
        max_gradient_norm=1.0,
        validation_share=0.0,
        patience=1,
        epochs=4,
        batch_size=8,
        forward_tokens=1000,
        max_tokens=200,
        checkpoint_every_epochs=1,
        workers=1,
        cpus_per_worker=1,
        use_gpu=False,
        max_worker_failures=2,
    )
