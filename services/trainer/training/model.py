"""The base model, cut at a layer; its LoRA adapter, in memory and on disk.

Layers keep the numbers they have in the base: a layer that must not run gives way to one that passes its input on. So
an adapter trained on the upper layers alone is, as it stands, an ordinary PEFT adapter of the whole base.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.trainer.training.lora import make_one_operation_each

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100


class _PassOn(nn.Module):
    """Stands where a decoder layer stood and gives its input on."""

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """Returns `hidden_states` as they came."""
        return hidden_states


class Base:
    """A frozen causal language model whose decoder is a list of layers and a norm (Llama and its like).

    Attributes:
        causal_lm: The model.
        decoder: Its decoder: `embed_tokens`, `layers`, `norm`.
        first_trained: Number of the lowest layer that is trained.
    """

    def __init__(self, causal_lm: "PreTrainedModel", trained_depth: float) -> None:
        """Freezes the model and settles where it is cut.

        Args:
            causal_lm: The model, with all its layers.
            trained_depth: Share of the layers that are trained, counted from the top; at least one is.

        Raises:
            ValueError: The model is not built like Llama.
        """
        decoder: Any = causal_lm.base_model
        for part in ("embed_tokens", "layers", "norm"):
            if not isinstance(getattr(decoder, part, None), nn.Module):
                raise ValueError(f"base: a Llama-like model is wanted; {type(decoder).__name__} has no {part}")
        self.causal_lm = causal_lm.requires_grad_(False)
        self.causal_lm.config.use_cache = False
        self.decoder = decoder
        self.layer_count = len(decoder.layers)
        self.first_trained = self.layer_count - max(1, round(trained_depth * self.layer_count))

    @classmethod
    def load(cls, folder: Path, trained_depth: float, dtype: torch.dtype) -> "Base":
        """Loads a Hugging Face folder, without reaching for the network.

        Raises:
            ValueError: It cannot be loaded, or is not built like Llama.
        """
        try:
            causal_lm = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        except OSError as exc:
            raise ValueError(f"base: {folder} cannot be loaded: {exc}") from exc
        return cls(causal_lm, trained_depth)

    def move_to(self, device: torch.device) -> None:
        """Moves the model."""
        nn.Module.to(self.causal_lm, device)

    @property
    def head(self) -> nn.Module:
        """From the decoder's last hidden states to logits."""
        head = self.causal_lm.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        assert isinstance(head, nn.Module)
        return head

    @contextmanager
    def only_lower(self) -> Iterator[None]:
        """Within it, the decoder ends before the first trained layer, without its norm."""
        norm = self.decoder.norm
        self.decoder.norm = nn.Identity()
        try:
            with self._passing_on(range(self.first_trained, self.layer_count)):
                yield
        finally:
            self.decoder.norm = norm

    @contextmanager
    def only_upper(self) -> Iterator[None]:
        """Within it, the decoder takes what it is given for the output of the layer below the first trained one."""
        with self._passing_on(range(self.first_trained)):
            yield

    def drop_lower(self) -> None:
        """Frees the layers below the cut for good."""
        for number in range(self.first_trained):
            self.decoder.layers[number] = _PassOn()

    @torch.no_grad()
    def check_cut(self, token_ids: Sequence[int]) -> None:
        """Makes sure that lower layers, upper layers and head, run one after the other, are the whole model.

        Raises:
            ValueError: They are not, for instance because the model scales its logits: training would learn
                something else than what will be served.
        """
        ids = torch.tensor([list(token_ids)], device=self.causal_lm.device)
        wanted = self.causal_lm(input_ids=ids).logits
        with self.only_lower():
            hidden = self.decoder(input_ids=ids).last_hidden_state
        with self.only_upper():
            got = self.head(self.decoder(inputs_embeds=hidden).last_hidden_state)
        if not torch.allclose(got, wanted, rtol=1e-2, atol=1e-2):
            raise ValueError(
                f"base: a Llama-like model is wanted; {type(self.causal_lm).__name__} does something between or after "
                f"its layers that training them apart would miss (logits differ by {(got - wanted).abs().max():.3g})"
            )

    @contextmanager
    def _passing_on(self, numbers: Iterable[int]) -> Iterator[None]:
        kept = {number: self.decoder.layers[number] for number in numbers}
        for number in kept:
            self.decoder.layers[number] = _PassOn()
        try:
            yield
        finally:
            for number, layer in kept.items():
                self.decoder.layers[number] = layer


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Loads the tokenizer of a Hugging Face folder.

    Raises:
        ValueError: There is none, or it has no chat template.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except OSError as exc:
        raise ValueError(f"base: the tokenizer of {folder} cannot be loaded: {exc}") from exc
    if tokenizer.chat_template is None:
        raise ValueError(f"base: the tokenizer of {folder} has no chat template; one is wanted to write requests with")
    return tokenizer


def add_lora(base: Base, *, rank: int, alpha: int) -> PeftModel:
    """Puts LoRA on every linear layer of the trained decoder layers; its first weights follow torch's seed."""
    linear = sorted(
        {
            name.rpartition(".")[2]
            for name, module in base.decoder.layers[-1].named_modules()
            if isinstance(module, nn.Linear)
        }
    )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=linear,
        # Named although the lower layers may be gone here: whoever loads the adapter has all of them.
        layers_to_transform=list(range(base.first_trained, base.layer_count)),
        layers_pattern="layers",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base.causal_lm, config)
    assert isinstance(model, PeftModel)
    make_one_operation_each(model)
    return model


def adapter_weights(model: PeftModel) -> dict[str, Tensor]:
    """Returns a copy of the adapter's weights as they are now, in the processor's memory."""
    return {name: tensor.detach().cpu().clone() for name, tensor in get_peft_model_state_dict(model).items()}


def set_adapter_weights(model: PeftModel, weights: dict[str, Tensor]) -> None:
    """Puts what `adapter_weights` returned back."""
    set_peft_model_state_dict(model, weights)


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json`, which PEFT loads on the whole base."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(adapter_weights(model), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = copy(model.peft_config["default"])
    # PEFT puts a path of this machine there; in an export (`schemas.exports`) the base lies beside the adapter.
    config.base_model_name_or_path = "base"
    config.save_pretrained(str(folder))


def load_adapter(model: PeftModel, folder: Path) -> None:
    """Reads back what `save_adapter` wrote."""
    set_adapter_weights(model, load_file(folder / "adapter_model.safetensors"))


class CompletionLogprobs(nn.Module):
    """The decoder and its head in one forward pass, so that data-parallel wrappers see both."""

    def __init__(self, base: Base, model: PeftModel) -> None:
        """Takes the base that `add_lora` put adapters into, and what it returned."""
        super().__init__()
        self.model = model
        # In tuples, lest they be registered a second time under other names.
        self._parts = (base.decoder, base.head)

    def forward(self, inputs: Tensor, labels: Tensor, kind: Literal["input_ids", "inputs_embeds"]) -> Tensor:
        """Log-probability of each row's completion, (rows,), in nats: the sum over its tokens.

        Args:
            inputs: Token ids (rows, tokens) or the cut's hidden states (rows, tokens, hidden), as `kind` says; padded
                on the right. Causal attention never looks at the padding, so no mask is needed.
            labels: (rows, tokens), `IGNORED` wherever a token is not the completion's.
            kind: What `inputs` are.
        """
        decoder, head = self._parts
        wanted = labels[:, 1:]
        counted = wanted != IGNORED
        hidden = decoder(**{kind: inputs}).last_hidden_state[:, :-1]
        logits = head(hidden[counted])
        of_tokens = -functional.cross_entropy(logits.float(), wanted[counted], reduction="none")
        return torch.zeros(counted.shape, device=labels.device).masked_scatter(counted, of_tokens).sum(dim=1)
