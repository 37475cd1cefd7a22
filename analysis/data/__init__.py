"""What is read: the runs of sweeps, their histories, the scores of test samples."""
