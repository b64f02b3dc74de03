"""CUDA cards described by data: what plans for cards that are not here are made from.

Sizes and peak rates are the vendor's.  Three columns are estimates, marked so: the share of the tensor-core peak that
``mma.sync`` reaches (the full peak of cards from sm_90 on needs instructions that the portable kernels do not use),
the bandwidth of L2, and both for cards that are not listed.  They serve the step-time model, nothing else.
"""

from __future__ import annotations

from dataclasses import replace

from lstmrep.planner.problem import Card

KB, MB, GIGA, TERA = 1 << 10, 1 << 20, 1e9, 1e12


def _card(
    name: str,
    sms: int,
    shared_kb: int,
    clock: float,
    gemm: float,
    mma_share: float,
    float_: float,
    l2_mb: int,
    l2: float,
    memory: float,
) -> Card:
    """A row of the table: GHz, TFLOP/s, MB, TB/s."""
    return Card(
        name=name,
        sms=sms,
        shared_bytes=shared_kb * KB,
        clock=clock * GIGA,
        gemm_rate=gemm * TERA,
        tensor_rate=gemm * mma_share * TERA,
        float_rate=float_ * TERA,
        l2_bytes=l2_mb * MB,
        l2_rate=l2 * TERA,
        memory_rate=memory * TERA,
    )


CARDS = {
    card.name: card
    for card in (
        #                    SMs  shared clock  bf16 mma.sync float32 L2  L2 rate memory
        #                                            (estimate)          (estimate)
        _card("A100", 108, 163, 1.41, 312, 0.90, 19.5, 40, 4.0, 2.039),
        _card("H100 SXM", 132, 227, 1.83, 989, 0.62, 67, 50, 5.5, 3.35),
        _card("H100 PCIe", 114, 227, 1.62, 756, 0.62, 51, 50, 4.9, 2.0),
        _card("H200", 132, 227, 1.83, 989, 0.62, 67, 50, 5.5, 4.8),
        _card("B200", 148, 227, 1.85, 2250, 0.31, 75, 126, 13.0, 8.0),
        _card("L40S", 142, 99, 2.49, 362, 0.90, 91.6, 96, 5.0, 0.864),
        _card("RTX 4090", 128, 99, 2.52, 165, 0.90, 82.6, 72, 5.0, 1.008),
    )
}

# Part of what the driver calls them -> the card; the first part that the name has counts.
_NAMES = (
    ("A100", "A100"),
    ("H100 PCIe", "H100 PCIe"),
    ("H100", "H100 SXM"),
    ("H200", "H200"),
    ("B200", "B200"),
    ("L40S", "L40S"),
    ("RTX 4090", "RTX 4090"),
)

# Of a card that is not listed, for one SM and cycle: flops of tensor cores and without, bytes of L2 and memory.
_CLOCK, _TENSOR, _FLOAT, _L2, _MEMORY = 1.5 * GIGA, 1024, 256, 24, 8


def card_for(name: str, sms: int, shared_bytes: int, l2_bytes: int = 0) -> Card:
    """The card that the driver found, with the rates of the one listed under its name, else with estimated ones.

    Args:
        name: the driver's name of the device.
        sms: streaming multiprocessors, as asked at run time (a part of a card has fewer).
        shared_bytes: dynamic shared memory that one CTA may have.
        l2_bytes: size of L2, 0 where it is not known.
    """
    card = next((CARDS[key] for part, key in _NAMES if part in name), None)
    if card is None:
        return with_rates(Card(name, sms, shared_bytes, l2_bytes=l2_bytes))
    share = min(1.0, sms / card.sms)
    return replace(
        card,
        name=name,
        sms=sms,
        shared_bytes=shared_bytes,
        gemm_rate=card.gemm_rate * share,
        tensor_rate=card.tensor_rate * share,
        float_rate=card.float_rate * share,
        l2_bytes=l2_bytes or card.l2_bytes,
    )


def with_rates(card: Card) -> Card:
    """The card, with estimates where it has no rates."""
    if card.clock:
        return card
    cycles = card.sms * _CLOCK
    return replace(
        card,
        clock=_CLOCK,
        gemm_rate=cycles * _TENSOR,
        tensor_rate=cycles * _TENSOR * 0.9,
        float_rate=cycles * _FLOAT,
        l2_bytes=card.l2_bytes or 40 * MB,
        l2_rate=cycles * _L2,
        memory_rate=cycles * _MEMORY,
    )
