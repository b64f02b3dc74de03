"""The candidate ``cta_resident``: each CTA holds all of W_hh and runs a few rows by itself."""

from __future__ import annotations

from lstmrep.planner.problem import BYTES, GATES, CudaPass, Machine, Problem, on_tensor_cores, uses_tf32

RESIDENT_UNITS = 16  # hidden units of a warp
RESIDENT_NARROW, RESIDENT_WIDE = 8, 12  # most warps of the two widths of cta_resident
RESIDENT_ROWS = 4  # most rows of a CTA


def resident_shared_bytes(h: int, rows: int, width: int, tensor: bool, backward: bool) -> int:
    """Dynamic shared memory of a CTA of cta_resident; the same formula as csrc/cuda/cta_resident/config.h.

    Args:
        h: H. rows: of a CTA. width: bytes of an operand of the products.
        tensor: tensor cores, or multiply-adds in true float32.
        backward: the pass.
    """
    warps, blocks = -(-h // RESIDENT_UNITS), -(-h * width // 64)  # a block is 64 bytes of K
    of_operand = blocks * (GATES if backward else 1)
    operand = 64 * (of_operand | 1) * (2 if rows <= 2 else 4) if tensor else 256 * of_operand
    wide = warps > RESIDENT_NARROW
    held = (1 if backward else 2) if wide else (4 if tensor else 3)
    return max(0, blocks - held) * GATES * 2 * 512 * warps + 2 * operand


def resident_pass(p: Problem, m: Machine, backward: bool) -> CudaPass | str:
    """The CTA-resident pass, or why it cannot run. Rows: as few as give every SM at most one CTA."""
    if m.card is None:
        return "the card's shared memory is not known"
    tf32 = uses_tf32(p, m)
    tensor = on_tensor_cores(p, tf32)
    warps = -(-p.hidden_size // RESIDENT_UNITS)
    most_warps = RESIDENT_WIDE if BYTES[p.dtype] == 2 else RESIDENT_NARROW
    if warps > most_warps:
        return f"H = {p.hidden_size} exceeds {most_warps * RESIDENT_UNITS}, the most that one CTA holds in {p.dtype}"
    rows = next((r for r in range(1, RESIDENT_ROWS) if -(-p.batch // r) * p.recurrences <= m.card.sms), RESIDENT_ROWS)
    shared = resident_shared_bytes(p.hidden_size, rows, BYTES[p.dtype], tensor, backward)
    if shared > m.card.shared_bytes:
        return (
            f"W_hh of H = {p.hidden_size} needs {shared:,} bytes of shared memory beside the registers, "
            f"a CTA has {m.card.shared_bytes:,}"
        )
    return CudaPass("cta_resident", rows, -(-p.batch // rows) * p.recurrences, shared, tf32)
