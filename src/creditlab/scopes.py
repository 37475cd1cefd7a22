"""What a metric can observe, by scope: the names of its positional parameters. `creditlab.metrics` explains each name.

A scope is the first part of a recorded name, `<scope>/<layer>/<metric>`.
"""

from __future__ import annotations

SCOPES = {
    "weights": ("weight", "singular_values", "initial_weight", "kernel", "dead", "feedback"),
    "activations": ("activation", "activation_map", "initial_activation", "label"),
    "network": (
        *("network", "predict", "x", "pixels", "normalise", "scores", "features"),
        *("readout_weight", "readout_bias", "surrogate", "label"),
    ),
    "signals": ("gradient", "update", "error", "true_gradient", "true_error", "trajectory"),
}
OF_CHANGES = {"weight", "singular_values"}  # also recorded of W − W₀, under changes/
ANYWHERE = ("generator",)


def scope_of(names: tuple[str, ...]) -> str | None:
    """The scope that has all of `names`; None if there is none."""
    if not set(names) - set(ANYWHERE):
        return None
    return next((scope for scope, observed in SCOPES.items() if set(names) <= {*observed, *ANYWHERE}), None)
