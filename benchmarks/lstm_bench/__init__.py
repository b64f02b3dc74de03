"""Parts of ``bench_lstm.py``: problems, what is timed on them, the gate, floors, the clock, the report."""
