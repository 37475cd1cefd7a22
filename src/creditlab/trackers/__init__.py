"""Trackers copy a run's history and summary to other tools. The records are kept with or without a tracker."""
