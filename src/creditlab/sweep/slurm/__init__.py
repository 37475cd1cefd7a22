"""A sweep on a SLURM cluster: submit its runs as tasks, follow them, cancel them."""
