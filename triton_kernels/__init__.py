"""Home of the Triton kernels; installed as ``lstmrep.triton_kernels``. It has none yet: the planner lists no Triton
backend and nothing imports this package."""
