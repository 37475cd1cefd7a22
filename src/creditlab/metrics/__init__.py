"""Metrics: pure functions of tensors, evaluated during a run (see `observe`).

A metric's positional parameters name what it observes, its keyword-only ones are keys of its YAML node. It
returns a number, recorded as `<scope>/<layer>/<metric>`, or a mapping, whose parts are recorded as `<metric>_<part>`.
It applies to the layers that have everything it observes. `creditlab.scopes` lists what can be observed. In every
scope there is:

    generator            a separate stream of random numbers (on the CPU) for this metric. It is the same at every
                         measurement and for every run of a seed, so that runs are compared on the same draws

weights/<layer>, and for the first two also changes/<layer>, of W − W₀ where it moved

    weight               (out, rest)              the layer's weight, seen as a matrix
    singular_values      (min(out, rest),)        of that matrix, float64, in falling order
    initial_weight       (out, rest)              the same at initialisation
    kernel               (out, in, kh, kw)        of a convolution with kh·kw > 1
    dead                 (out,) bool              which units are silent on every probe sample; where the rows of the
                                                  weight are a hidden block's units
    feedback             (out, rest)              what stands for the weight in the rule's backward pass

activations/<block>, of each hidden block on the probe samples

    activation           (samples, units)         averaged over space
    activation_map       (samples, units, space)  by position
    initial_activation   (samples, units)         the same samples at initialisation
    label                (samples,)               the class of each sample (also in network/)

network/

    network              nn.Sequential            a copy for this metric, in evaluation mode; the metric may change it
    predict              (network, x) → scores    the rule's prediction (samples, classes), differentiable
    x                    (samples, *input_shape)  the probe samples as the network takes them
    pixels               (samples, *input_shape)  the same before normalisation, scaled to [0, 1]; not of tokens
    normalise            pixels → x
    scores               (samples, classes)       of the probe samples, float64
    features             (samples, features)      what the output layer receives
    readout_weight       (classes, features)      if the scores are those of a linear output layer
    readout_bias         (classes,)               likewise
    surrogate            x → scores               of the run that `metrics.surrogate` names

signals/<layer> and signals/<block>, at measurement steps, on the training batch of the step

    gradient             (out, rest)              what the rule wrote for the weight
    update               (out, rest)              what the optimiser, noise included, added to the weight
    error                (batch, units, space)    the error signal at the block's pre-activation
    true_gradient        (out, rest)              backpropagation's, of the cross-entropy of the scores, same batch
    true_error           (batch, units, space)    likewise; where the rule's error is of the same samples
    trajectory           (T, entries)             the rule's gradients at the last T steps of `metrics.trajectory`
"""
