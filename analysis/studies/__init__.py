"""Two studies: their claims beside our numbers, and learning rates tuned for each of their conditions."""
