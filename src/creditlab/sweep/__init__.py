"""How many runs become a sweep: planning, launching, and telling where it stands."""
