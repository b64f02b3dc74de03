"""The stages of ``make gpu-check``: what can only be shown on hardware, each run in a process of its own."""
