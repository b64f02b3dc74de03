"""Triton kernels of the recurrence; installed as ``lstmrep.triton_kernels``. docs/kernels/triton.md has the design.

    cell.py             the equations of the cell, forward and backward: the only copy here
    product.py          products with W_hh
    tile.py             one step of one tile, rows of the batch by hidden units: loads, the cell, stores
    barrier.py          programs wait for each other
    stepwise.py         a tile step around a library product: two launches a step
    fused_step.py       product and tile step in one launch a step
    batch_split.py      the whole sequence in one launch, each program runs a few rows by itself
    grid_persistent.py  the whole sequence in one launch, hidden units split over programs that wait for each other
    launch.py           how launches start and are counted
    signatures.py       entries and their arguments, for compiling without a GPU

Importing this package does not import triton; importing one of its kernels does.
"""
