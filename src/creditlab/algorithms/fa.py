"""Feedback alignment: backpropagation with fixed random matrices instead of the transposed weights.

    δ_L = softmax(a_L) − y,   δ_l = (B_{l+1} δ_{l+1}) ⊙ φ'(a_l),   ∂L/∂W_l := δ_l h_{l−1}ᵀ

Every layer below the read-out receives its error through feedback weights. This includes shortcuts and convolutions (a
transposed convolution with a fixed random kernel). B is drawn like W, from its own random stream, and has the shape of
W. All else is exact: gains, biases, normalisation and pooling keep their true derivatives.

Source: Lillicrap, Cownden, Tweed, Akerman, "Random synaptic feedback weights support error backpropagation for deep
learning", Nature Communications 2016; for layers of any depth eq. 4 of Boeshertz, Pascanu, Clopath, arXiv 2606.11123.
The latter does not give the scale of B: `scale` multiplies ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

from creditlab.algorithms.base import Draw, statistics_kept
from creditlab.algorithms.bp import Backpropagation
from creditlab.algorithms.proof import exact_weights
from creditlab.architectures.block import teaching, weights
from creditlab.keys import Positive
from creditlab.task import Task


class _Linear(torch.autograd.Function):
    """x Wᵀ + b, with a derivative by x that uses B instead of W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor) -> Tensor:
        ctx.save_for_backward(x, feedback)
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (delta,) = gradients  # (..., out)
        x, feedback = (saved.to(delta.dtype) for saved in ctx.saved_tensors)  # bfloat16 under autocast
        rows = delta.flatten(end_dim=-2)
        return (
            delta @ feedback if ctx.needs_input_grad[0] else None,
            rows.T @ x.flatten(end_dim=-2) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
            None,
        )


class _LinearOfMany(_Linear):
    """The same for `torch.func.vmap`, which needs a `setup_context` apart from the forward pass. Outside of vmap this
    form takes three times as long to call.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor) -> Tensor:  # type: ignore[override]
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, _, _, feedback = inputs
        ctx.save_for_backward(x, feedback)


class _Convolution(torch.autograd.Function):
    """A convolution by W, with a derivative by the input that uses B instead of W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor, geometry: tuple) -> Tensor:
        ctx.save_for_backward(x, feedback)
        ctx.geometry = geometry
        ctx.bias_shape = None if bias is None else list(bias.shape)
        return nn.functional.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (delta,) = gradients
        x, feedback = (saved.to(delta.dtype) for saved in ctx.saved_tensors)  # bfloat16 under autocast
        stride, padding, dilation, groups = ctx.geometry
        # The weight's derivative does not depend on the weight, so one call with B gives all three.
        by_x, by_weight, by_bias = torch.ops.aten.convolution_backward(
            delta, x, feedback, ctx.bias_shape, stride, padding, dilation, False, [0, 0], groups,
            list(ctx.needs_input_grad[:3]),
        )  # fmt: skip
        return by_x, by_weight, by_bias, None, None


FEEDBACK_NODES = tuple(f"{node.__name__}Backward" for node in (_Linear, _LinearOfMany, _Convolution))


class FeedbackMode(TorchFunctionMode):
    """While this is active, every linear map and convolution by a weight in `feedback` sends the error back through
    the feedback weight instead. The forward pass does not change, so this works for any architecture.
    """

    def __init__(self, feedback: Mapping[Tensor, Tensor]) -> None:
        super().__init__()
        self.partners = {id(weight): partner for weight, partner in feedback.items()}

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is nn.functional.linear:
            return self._linear(*args, **(kwargs or {}))
        if function is nn.functional.conv2d:
            return self._conv2d(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if id(weight) not in self.partners:
            return nn.functional.linear(input, weight, bias)
        # under functional_call the weight is no Parameter, and may be that of many networks
        kind = _Linear if isinstance(weight, nn.Parameter) else _LinearOfMany
        return kind.apply(input, weight, bias, self.partners[id(weight)])

    def _conv2d(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        if id(weight) not in self.partners or isinstance(padding, str):
            return nn.functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
        geometry = (*(_pair(value) for value in (stride, padding, dilation)), groups)
        return _Convolution.apply(input, weight, bias, self.partners[id(weight)], geometry)


def _pair(value: int | Iterable[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class FeedbackRule(Backpropagation):
    """Backpropagation with the weights of `feedback(network)` instead of the transposed weights."""

    def verify(self, network: nn.Sequential, x: Tensor) -> None:
        """Raises ValueError for a weight that sends errors back by itself, so that the rule would be backpropagation
        below it.
        """
        x = x.detach().requires_grad_() if x.is_floating_point() else x
        with statistics_kept(network):
            scores, _ = self.scores(network, x)
        if exact := exact_weights(scores, x, dict(network.named_parameters()), FEEDBACK_NODES):
            (name, node), *others = exact.items()
            more = f" (and {len(others)} more)" if others else ""
            raise ValueError(
                f"{name}{more} sends errors back by itself, in {node}, so that below it the rule would be "
                "backpropagation. Feedback weights reach what `torch.nn.functional.linear` and `conv2d` are called "
                "with: build the layer of these, or use a rule without feedback weights"
            )

    def scores(self, network: nn.Sequential, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        forward_weights, feedback = weights(network), self.feedback(network)
        with FeedbackMode({forward_weights[layer]: b for layer, b in feedback.items()}):
            return super().scores(network, x)


class FeedbackAlignment(FeedbackRule):
    """`scale` multiplies the feedback weights."""

    def __init__(
        self, network: nn.Sequential, task: Task, draw: Draw, generator: Generator, *, scale: Positive
    ) -> None:
        super().__init__(network, task, draw, generator)
        for layer, b in drawn_anew(network, draw, generator).items():
            self.register_buffer(registered(layer), b * scale)

    def feedback(self, network: nn.Sequential) -> dict[str, Tensor]:
        return {layer: self.get_buffer(registered(layer)) for layer in teaching(network)}


def drawn_anew(network: nn.Sequential, draw: Draw, generator: Generator) -> dict[str, Tensor]:
    """Feedback weights by layer, drawn like the weights that errors are sent through. Raises ValueError if they equal
    these weights.
    """
    forward_weights = teaching(network)
    drawn = {layer: b.detach() for layer, b in teaching(draw(generator)).items()}
    for layer, b in drawn.items():
        if not b.any():
            raise ValueError(
                f"{layer} starts at zero. Feedback weights are drawn like the weights, so its feedback weight would be "
                "zero too and send no error back"
            )
        if torch.equal(b, forward_weights[layer]):
            raise ValueError(
                f"a new draw of {layer} equals its forward weight, so feedback through it would be backpropagation: "
                "the architecture does not draw this weight (architecture.checkpoint)"
            )
    return drawn


def registered(layer: str) -> str:
    """The name of a layer's buffer or parameter. It must not contain dots."""
    return layer.replace(".", "/")
