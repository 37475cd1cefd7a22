"""Trackers: mirrors of a run's history and summary where people already look. Records are kept with or without one."""
