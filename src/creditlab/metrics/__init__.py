"""Instruments: pure functions of tensors, evaluated by layer on what a run shows of itself (see `observe`).

A metric's positional parameters name what it observes, its keyword-only ones are keys of its YAML node. What there is
to observe, and where the values are recorded (`<scope>/<layer>/<metric>`):

    weight            (out, rest)              a layer's weight, seen as a matrix      weights/, and W − W₀ in changes/
    singular_values   (min(out, rest),)        of that matrix, in falling order        weights/, and W − W₀ in changes/
    initial_weight    (out, rest)              the same at initialisation              weights/
    activation        (samples, units)         a hidden block's, averaged over space   activations/
    activation_map    (samples, units, space)  the same by position                    activations/
    label             (samples,)               the class of each sample                with either of these two
"""

OBSERVABLES = ("weight", "singular_values", "initial_weight", "activation", "activation_map", "label")
