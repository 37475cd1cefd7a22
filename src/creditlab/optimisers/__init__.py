"""Optimisers that map the singular values of the momentum (see `spectral_descent`). SGD and AdamW are torch's."""
