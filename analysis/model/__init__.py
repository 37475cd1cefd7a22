"""What is fitted: designs, least squares of all metrics at once, permutations, adjustments for many tests."""
