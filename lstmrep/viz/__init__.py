"""Pictures of predictions: filmstrips, animations, curves, a gallery page."""
