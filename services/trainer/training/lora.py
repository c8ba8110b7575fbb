"""A LoRA layer as one operation.

PEFT's layer is a dozen operations forward and more on the way back, most of them casts between the adapter's float32
and the base's type; on a CPU, with rows of a hundred tokens, those take longer than the products. What is computed is
the same: x Wᵀ + s (x Aᵀ) Bᵀ (Hu et al. 2021).
"""

from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn


def make_one_operation_each(model: nn.Module) -> None:
    """Puts `LoraProduct` in the place of the forward pass of every LoRA layer of a PEFT model that is being trained.

    A layer with a bias keeps PEFT's. Dropout, which nothing here asks for, is not done.
    """
    for module in model.modules():
        if isinstance(module, Linear) and module.base_layer.bias is None:
            module.forward = partial(_forward, module)


def _forward(layer: Linear, inputs: Tensor) -> Tensor:
    (name,) = layer.active_adapters
    a, b, scaling = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    product: Tensor = LoraProduct.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        inputs, layer.base_layer.weight, a, b, scaling
    )
    return product


class LoraProduct(torch.autograd.Function):
    """inputs (..., i) · weight (o, i)ᵀ + scaling · (inputs · a (r, i)ᵀ) · b (o, r)ᵀ, in the type of the inputs.

    Only inputs, a and b get gradients: the weight is frozen.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        """The product, (..., o)."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        a, b = a.to(rows.dtype), b.to(rows.dtype)
        inner = rows @ a.T
        ctx.save_for_backward(rows, weight, a, b, inner)
        ctx.scaling = scaling
        return (rows @ weight.T).addmm_(inner, b.T, alpha=scaling).view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        """Gradients of inputs, a and b; those of a and b are float32, as the optimizer keeps them."""
        rows, weight, a, b, inner = ctx.saved_tensors
        upper = gradient.reshape(-1, gradient.shape[-1])
        lower = (upper @ b) * ctx.scaling
        of_inputs = None
        if ctx.needs_input_grad[0]:
            of_inputs = (upper @ weight).addmm_(lower, a).view(*gradient.shape[:-1], -1)
        of_a, of_b = lower.T @ rows, (upper.T @ inner) * ctx.scaling
        return of_inputs, None, of_a.float(), of_b.float(), None
