"""Parts of the planner (``lstmrep.plan``): problems, cards, candidates, step times. Standard library only."""
