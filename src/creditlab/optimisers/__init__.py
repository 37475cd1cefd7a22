"""Optimisers: torch's own, and a family of maps on the singular values of the momentum (see `spectral_descent`)."""
