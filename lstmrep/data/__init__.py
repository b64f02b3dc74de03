"""Clips to train on: moving digits by the original's rules, digit sources, the fixed test file."""
