// Which elements of the cell a lane computes, and where they live.
//
// A warp has 16 units, a CTA `rows` rows in a pattern of 2 or 4 columns. Lane (g, t) owns one
// element of pattern 2, two of pattern 4: slot s is unit 2g + t / 2 of the warp and row t % 2
// (pattern 2) or 2 (t % 2) + s (pattern 4), which is what Sum::owned gives. So few rows leave no
// lane idle and no cell is computed twice.
#pragma once

#include "cuda/cta_resident/config.h"
#include "cuda/primitives/device.h"

namespace lstmrep {

struct ResidentElement {
  bool exists;
  int unit, row;  // row: within the CTA
  int length;     // steps of its row
  bool reversed;

  LSTMREP_DEVICE int n() const { return static_cast<int>(blockIdx.y); }
  // Index in [N, B, H].
  LSTMREP_DEVICE int64_t state(const RecurrenceShape& s) const { return in_state(s, blockIdx.y); }

  // Index in h0, c0 and their gradients.
  LSTMREP_DEVICE int64_t start(const RecurrenceShape& s) const {
    return in_state(s, s.shared_start ? 0 : blockIdx.y);
  }

  LSTMREP_DEVICE bool active(int step) const { return step < length; }

  // Index of (frame of a step, row), to be multiplied by H or 4H. Of the step before too: -1 steps.
  LSTMREP_DEVICE int64_t frame_row(const RecurrenceShape& s, int step) const {
    const int frame = reversed && active(step) ? length - 1 - step : step;
    return (int64_t{n()} * s.t + frame) * s.b + int64_t{blockIdx.x} * s.rows + row;
  }

 private:
  LSTMREP_DEVICE int64_t in_state(const RecurrenceShape& s, int64_t n) const {
    return (n * s.b + int64_t{blockIdx.x} * s.rows + row) * s.h + unit;
  }
};

// warp_unit: the lane's first unit, warp * 16 + 2g.
LSTMREP_DEVICE ResidentElement resident_element(const RecurrenceShape& s, const int32_t* lengths,
                                                int warp_unit, int t, int pattern, int slot) {
  ResidentElement e;
  e.row = pattern == 4 ? 2 * (t % 2) + slot : t % 2;
  e.unit = warp_unit + t / 2;
  const int64_t b = int64_t{blockIdx.x} * s.rows + e.row;
  e.exists = slot < pattern / 2 && e.row < s.rows && b < s.b && e.unit < s.h;
  const int64_t state_row = int64_t{blockIdx.y} * s.b + b;
  e.length = s.t;
  if (e.exists && lengths) {
    const int given = lengths[state_row];
    e.length = given < 0 ? 0 : given > s.t ? s.t : given;
  }
  e.reversed = (s.reverse >> blockIdx.y) & 1u;
  return e;
}

}  // namespace lstmrep
