"""The transformer's attention, written out, against PyTorch's fused one: forward and backward.

    python -m benchmarks.attention [--device cuda]

The fused one lacks second and forward derivatives, which instruments and rules ask for; this says what that costs.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.measure import SPREAD, Seconds, console, load, now, ratio, show, spread
from creditlab.architectures.transformer import Attention

CLOCKS = ("wall", "cpu")
SIZES = [(64, 64, 64, 4), (8, 256, 384, 6), (2, 1024, 768, 12)]  # batch, positions, width, heads


class Fused(Attention):
    """The same unit and the same numbers."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.mT
        heads = self.qkv(self.norm(h)).unflatten(2, (3, self.heads, -1))
        mixed = scaled_dot_product_attention(*heads.permute(2, 0, 3, 1, 4), is_causal=True)
        return (h + self.out(mixed.transpose(1, 2).flatten(2))).mT


def seconds(unit: nn.Module, x: Tensor) -> Seconds:
    began = now()
    unit(x).sum().backward()
    if x.is_cuda:
        torch.cuda.synchronize()
    return now() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    console.print(load())
    rows = []
    for batch, positions, width, heads in SIZES:
        written, fused = (kind(width, heads).to(chosen.device) for kind in (Attention, Fused))
        fused.load_state_dict(written.state_dict())
        x = torch.randn(batch, positions, width, device=chosen.device).mT
        torch.testing.assert_close(written(x), fused(x), rtol=1e-4, atol=1e-4)
        taken: tuple[list[Seconds], list[Seconds]] = ([], [])
        for number in range(chosen.rounds + 1):
            for unit, times in zip((written, fused), taken, strict=True):
                duration = seconds(unit, x)
                if number:  # the first is a warm-up
                    times.append(duration)
        size = f"{batch} × {positions} × {width}"
        ratios = [
            ratio([getattr(s, clock) for s in taken[0]], [getattr(s, clock) for s in taken[1]]) for clock in CLOCKS
        ]
        rows.append([f"written out, {size}", *spread(taken[0], 1000, 1), *ratios])
        rows.append([f"fused, {size}", *spread(taken[1], 1000, 1), "", ""])
    columns = ("", *SPREAD, "wall, ratio", "processor, ratio")
    show(
        f"Milliseconds of one attention unit (batch × positions × width), {chosen.device}, {chosen.rounds} rounds",
        columns,
        rows,
    )


if __name__ == "__main__":
    main()
