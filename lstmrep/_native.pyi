"""Types of the compiled module. Arrays are raw addresses (0 is null where "or 0" is said); a stream is an integer.

S is the I/O type: 0 float32, 1 bfloat16, 2 float16, 3 float64 (CPU only). C is the compute type: float32, or
float64 for float64. cell: 0 tanh, 1 relu. Arrays are dense and row-major; gates in order i, f, g, o, peepholes in
order i, f, o. Step t of a row is frame t, or length-1-t in a reversed recurrence; from its length on a row gets
zeros at frame t and keeps its state. Bad codes and sizes raise ValueError naming the argument.
"""

from collections.abc import Sequence
from typing import Any

version: str

def compiler() -> str: ...
def has_openmp() -> bool: ...
def launch_counts() -> dict[str, int]: ...
def reset_launch_counts() -> None: ...
def advise_huge_pages(address: int, bytes: int) -> None: ...
def offer_pages(address: int, bytes: int) -> bool: ...  # False: the system takes no such offers
def pooled_tensor(dtype: int, sizes: Sequence[int]) -> Any: ...  # a DLPack capsule, uninitialised
def clear_pool() -> int: ...  # gives up the blocks that wait for the next call; bytes
def cpu_isas_built() -> list[str]: ...
def cpu_isas_usable() -> list[str]: ...
def cpu_isa() -> str: ...
def set_cpu_isa(name: str) -> None: ...
def cpu_math(name: str, in_ptr: int, out_ptr: int, n: int) -> None: ...
def cpu_workspace_bytes(
    dtype: int, N: int, T: int, B: int, H: int, I: int, threads: int, packed: bool, by_rows: bool, backward: bool
) -> int: ...
def cpu_pack_bytes(dtype: int, H: int) -> int: ...
def cpu_pack(
    dtype: int,
    H: int,
    w_hh: int,  # [4H, H] S
    pack: int,  # cpu_pack_bytes, 64-byte aligned, out
) -> None: ...
def cpu_forward(
    dtype: int,
    cell: int,
    threads: int,
    packed: bool,  # False: W_hh is read where it lies, for B <= 4
    by_rows: bool,  # threads share out rows, not units; packed only
    N: int,
    T: int,
    B: int,
    H: int,
    I: int,  # features of x; 0: the input share is gates_x
    gates_x: int,  # [N, T, B, 4H] S, or 0
    x: int,  # S, or 0
    x_strides: tuple[int, int, int],  # of x along N, T and B, in elements
    w_ih: Sequence[int],  # N addresses of [4H, I] S, or empty
    vectors_as_io: bool,  # V, the type of biases and peepholes, is S, else C
    bias: Sequence[int],  # N addresses of [4H] V, or 2 N of those that are added in pairs, or empty
    w_hh: Sequence[int],  # N addresses of [4H, H] S
    packs: Sequence[int],  # N addresses of what cpu_pack made with this instruction set, or empty
    peephole: Sequence[int],  # 3 N addresses of [H] V, or empty
    h0: int,  # [N, B, H] S, or 0
    c0: int,  # [N, B, H] C, or 0
    lengths: int,  # [N, B] int32, or 0
    reverse: Sequence[bool],  # N
    h: int,  # [N, T, B, H] S, out
    h_n: int,  # [N, B, H] S, out
    c_n: int,  # [N, B, H] C, out
    gates: int,  # [N, T, B, 4H] S, out, or 0; may be gates_x
    c: int,  # [N, T, B, H] C, out, or 0
    workspace: int,  # cpu_workspace_bytes, 64-byte aligned, scratch
) -> None: ...
def cpu_backward(
    dtype: int,
    cell: int,
    threads: int,
    packed: bool,  # False: W_hh is read where it lies, for B <= 4
    by_rows: bool,  # threads share out rows, not units; packed only
    N: int,
    T: int,
    B: int,
    H: int,
    w_hh: Sequence[int],  # N addresses of [4H, H] S
    vectors_as_io: bool,  # as above, and of their gradients
    peephole: Sequence[int],  # 3 N addresses of [H] V, or empty
    c0: int,  # [N, B, H] C, or 0
    lengths: int,  # [N, B] int32, or 0
    reverse: Sequence[bool],  # N
    gates: int,  # [N, T, B, 4H] S
    c: int,  # [N, T, B, H] C
    grad_h: int,  # [N, T, B, H] S, or 0
    grad_h_n: int,  # [N, B, H] S, or 0
    grad_c_n: int,  # [N, B, H] C, or 0
    d_gates: int,  # [N, T, B, 4H] S, out; may be gates
    d_h0: int,  # [N, B, H] S, out, or 0
    d_c0: int,  # [N, B, H] C, out, or 0
    d_bias: int,  # [N, 4H] V, out, or 0
    d_peephole: Sequence[int],  # 3 N addresses of [H] V, out, or empty
    workspace: int,  # cpu_workspace_bytes, 64-byte aligned, scratch
) -> None: ...
def cpu_gradients_workspace_bytes(
    dtype: int,
    T: int,
    B: int,
    H: int,
    I: int,
    threads: int,
    input: bool,  # d_x is wanted
) -> int: ...
def cpu_gradients(
    dtype: int,
    T: int,
    B: int,
    H: int,
    I: int,
    threads: int,
    d_gates: int,  # [T, B, 4H] S
    x: int,  # S; 0 without d_w_ih
    x_strides: tuple[int, int],  # of x along T and B, in elements
    w_ih: int,  # [4H, I] S; 0 without d_x
    h: int,  # [T, B, H] S; 0 without d_w_hh
    h0: int,  # [B, H] S, or 0
    lengths: int,  # [B] int32, or 0
    reverse: bool,
    add: bool,  # d_x to what is there
    d_x: int,  # [T, B, I] S, out, or 0
    d_w_ih: int,  # [4H, I] S, out, or 0
    d_w_hh: int,  # [4H, H] S, out, or 0
    workspace: int,  # cpu_gradients_workspace_bytes, 64-byte aligned, scratch
) -> None: ...
def read_tensors_by(table: Any, tensor: type, parameter: type) -> None: ...  # torch's capsule, and its plain types
def signature(tensors: tuple[Any, ...]) -> bytes | None: ...  # None: one is not a plain tensor on the CPU

class DirectCall:
    """A small call whose tensors, the only ones here, are read in C++: nothing but their presence is checked."""

    packed: bool
    forward_bytes: int
    backward_bytes: int
    def __init__(
        self,
        dtype: int,
        cell: int,
        threads: int,
        packed: bool,
        by_rows: bool,
        T: int,
        B: int,
        H: int,
        I: int,
        vectors_as_io: bool,
        bias_parts: int,  # 0, 1 or 2
        peephole: bool,
        reverse: bool,
        gradients_threads: int,
        fresh: Any,  # makes a tensor like the one it is given
        like: tuple[Any, ...],  # h, h_n, c_n, gates, c, x, a bias, the peepholes in one [3, H]
    ) -> None: ...
    def forward(
        self,
        flat: tuple[Any, ...],  # x, h0, c0, None, w_ih, w_hh, biases, peepholes
        training: bool,  # gates and c are wanted
        layer: bool,  # h as [T, B, H], not [1, T, B, H]
        workspace: int,  # forward_bytes, 64-byte aligned, scratch
    ) -> tuple[Any, ...]: ...  # h, h_n, c_n, gates, c
    def backward(
        self,
        tensors: tuple[Any, ...],  # grad_h, grad_h_n, grad_c_n, h, gates, c, then as above
        needs: tuple[bool, ...],  # one more than inputs: the first is passed over
        d_gates: int,  # [1, T, B, 4H] S, scratch
        workspace: int,  # backward_bytes, 64-byte aligned, scratch
    ) -> tuple[Any, ...]: ...  # None, then the gradients of the inputs

def cuda_built() -> bool: ...
def cuda_archs() -> list[str]: ...
def nvcc_version() -> str: ...
def cuda_status() -> str: ...
def cuda_devices() -> list[dict[str, Any]]: ...
def cuda_take_abort(device: int) -> int: ...  # the code of a kernel that gave up, then 0
def cuda_abort_devices() -> list[int]: ...  # where a kernel that may give up was launched
def cuda_resident_forward(
    device: int,
    stream: int,
    dtype: int,
    cell: int,
    tf32: bool,
    N: int,
    T: int,
    B: int,
    H: int,
    rows: int,
    gates_x: int,
    bias: list[int],
    w_hh: list[int],
    peephole: list[int],
    vector_io: bool,
    h0: int,
    c0: int,
    shared_start: bool,
    lengths: int,
    reverse: int,
    h: int,
    h_n: int,
    c_n: int,
    gates: int,
    c: int,
) -> None: ...
def cuda_resident_backward(
    device: int,
    stream: int,
    dtype: int,
    cell: int,
    tf32: bool,
    N: int,
    T: int,
    B: int,
    H: int,
    rows: int,
    w_hh: list[int],
    peephole: list[int],
    vector_io: bool,
    c0: int,
    shared_start: bool,
    lengths: int,
    reverse: int,
    gates: int,
    c: int,
    grad_h: int,
    grad_h_n: int,
    grad_c_n: int,
    d_gates: int,
    d_h0: int,
    d_c0: int,
    vectors: int,
    sums: int,
    start_parts: int,
    arrivals: int,
) -> None: ...
def cuda_grid_forward(
    device: int,
    stream: int,
    dtype: int,
    cell: int,
    tf32: bool,
    N: int,
    T: int,
    B: int,
    H: int,
    rows: int,
    layout: tuple[int, ...],  # lstmrep.plan.GridLayout.choice
    gates_x: int,
    bias: list[int],
    w_hh: list[int],
    peephole: list[int],
    vector_io: bool,
    h0: int,
    c0: int,
    shared_start: bool,
    lengths: int,
    reverse: int,
    h: int,
    h_n: int,
    c_n: int,
    gates: int,
    c: int,
    exchange: int,  # zeros, as many bytes as GridLayout says; so are the next
    counters: int,
    streamed: int,
    budget_ns: int,
) -> None: ...
def cuda_grid_backward(
    device: int,
    stream: int,
    dtype: int,
    cell: int,
    tf32: bool,
    N: int,
    T: int,
    B: int,
    H: int,
    rows: int,
    layout: tuple[int, ...],
    w_hh: list[int],
    peephole: list[int],
    vector_io: bool,
    c0: int,
    shared_start: bool,
    lengths: int,
    reverse: int,
    gates: int,
    c: int,
    grad_h: int,
    grad_h_n: int,
    grad_c_n: int,
    d_gates: int,
    d_h0: int,
    d_c0: int,
    dc: int,
    vectors: int,
    sums: int,
    start_parts: int,
    arrivals: int,
    exchange: int,
    counters: int,
    streamed: int,
    parts: int,
    budget_ns: int,
) -> None: ...
def cuda_grid_layout(
    N: int, H: int, rows: int, width: int, tensor: bool, backward: bool, layout: tuple[int, ...]
) -> dict[str, int]: ...
def cuda_sums_pitch(H: int) -> int: ...
def cuda_resident_shared_bytes(H: int, rows: int, width: int, tensor: bool, backward: bool) -> int: ...
def cuda_frame_loss_scratch(N: int, T: int, B: int, D: int, backward: bool) -> tuple[int, int]: ...
def cuda_frame_loss_forward(
    device: int,
    stream: int,
    dtype: int,
    kind: int,  # 0 bernoulli, 1 gaussian, 2 relu
    heads: list[tuple[int, int, int, int, float]],  # bias or 0, frames, frame_step, count, weight
    T: int,
    B: int,
    D: int,
    vector_io: bool,
    frames_io: bool,
    row_stride: int,
    z: int,  # [N, T, B, D] S, in and out
    parts: int,
    arrivals: int,
    losses: int,  # [N] float32, out
    total: int,  # [1] float32, out
) -> None: ...
def cuda_frame_loss_backward(
    device: int,
    stream: int,
    dtype: int,
    kind: int,
    heads: list[tuple[int, int, int, int, float]],
    T: int,
    B: int,
    D: int,
    vector_io: bool,
    frames_io: bool,
    row_stride: int,
    z: int,  # [N, T, B, D] S
    grad_total: int,  # [1] float32, or 0
    grad_losses: int,  # [N] float32, or 0
    grad_z: int,  # [N, T, B, D] S, or 0
    d_z: int,  # [N, T, B, D] S, out
    parts: int,
    arrivals: int,
    d_bias: int,  # [N, D], out, or 0
) -> None: ...
def cuda_pointwise_forward(
    device: int,
    stream: int,
    dtype: int,
    cell: int,
    N: int,
    T: int,
    B: int,
    H: int,
    step: int,
    gates_x: int,  # [N, T, B, 4H] S, or 0
    recurrent: int,  # [N, B, 4H] float32, h' W_hh^T, or 0
    bias: int,  # [N, 4H] float32, or 0
    peephole: int,  # [N, 3, H] float32, or 0
    lengths: int,  # [N, B] int32, or 0
    reverse: int,  # bit n: recurrence n is reversed
    c_state: int,  # [N, B, H] float32, in and out
    h_state: int,  # [N, B, H] S, out; unchanged for inactive rows
    h: int,  # [N, T, B, H] S, out
    gates: int,  # [N, T, B, 4H] S, out, or 0; may be gates_x
    c: int,  # [N, T, B, H] float32, out, or 0
) -> None: ...
def cuda_pointwise_backward(
    device: int,
    stream: int,
    dtype: int,
    cell: int,
    N: int,
    T: int,
    B: int,
    H: int,
    step: int,
    peephole: int,  # [N, 3, H] float32, or 0
    lengths: int,  # [N, B] int32, or 0
    reverse: int,  # bit n: recurrence n is reversed
    gates: int,  # [N, T, B, 4H] S
    c: int,  # [N, T, B, H] float32
    c0: int,  # [N, B, H] float32, or 0
    grad_h: int,  # [N, T, B, H] S, or 0
    grad_h_n: int,  # [N, B, H] S, or 0
    grad_c_n: int,  # [N, B, H] float32, or 0
    dh_recurrent: int,  # [N, B, H] float32, d_step of step+1 times W_hh, or 0
    dc: int,  # [N, B, H] float32, in and out; never touched for rows of length 0
    d_gates: int,  # [N, T, B, 4H] S, out; may be gates
    d_step: int,  # [N, B, 4H] S, out; zeros for inactive rows
    sums: int,  # [N, B, 7, H] float32, added to, or 0
) -> None: ...
