"""How far runs agree: on hard samples, in their representations, and whether a run's rule can be identified."""
