"""What predictions are worth: the paper's units, the field's metrics, baselines beside every number."""
