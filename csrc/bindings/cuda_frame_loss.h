// Python entries of the frame loss: checks, builds the argument structs, releases the GIL.
//
// Arrays, shapes and meaning: cuda/frame_loss/config.h.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/check.h"
#include "cuda/frame_loss/launch.h"

namespace lstmrep {
namespace bindings {

namespace py = pybind11;

// One head: bias, frames, frame_step, count, weight.
using FrameLossEntry = std::tuple<Address, Address, int64_t, int64_t, float>;

inline FrameLossShape frame_loss_shape(int device, int dtype, int kind,
                                       const std::vector<FrameLossEntry>& heads, int64_t t,
                                       int64_t b, int64_t d, bool vector_io, bool frames_io,
                                       int64_t row_stride, FrameLossHead* to) {
  const int64_t n = static_cast<int64_t>(heads.size());
  cuda_sizes(device, dtype, 0, n, kFrameLossHeads, t, 1, b, d);
  at_least("B", b, 1);
  require(t * b < (int64_t{1} << 31), "T * B must be below 2^31");
  code("kind", kind, kFrameKinds);
  for (int64_t j = 0; j < n; ++j) {
    const auto& [bias, frames, step, count, weight] = heads[j];
    not_null("frames", frames, 1);
    if (count < 1 || count > t) {
      refuse("count must be in 1..T = " + std::to_string(t) + ", got " + std::to_string(count));
    }
    to[j] = {pointer(bias), pointer(frames), step, static_cast<int32_t>(count), weight};
  }
  const int width = static_cast<int>(d);
  return {static_cast<int32_t>(n),
          static_cast<int32_t>(t),
          static_cast<int32_t>(b),
          width,
          frame_loss_chunks(n, t, b, width),
          kind,
          vector_io,
          frames_io,
          row_stride};
}

// Floats of `parts` and words of `arrivals` that a pass needs.
inline std::pair<int64_t, int64_t> cuda_frame_loss_scratch(int64_t n, int64_t t, int64_t b, int d,
                                                           bool backward) {
  at_least("N", n, 1);
  at_least("D", d, 1);
  const int64_t chunks = n * frame_loss_chunks(n, t, b, d), tiles = frame_loss_tiles(d);
  return backward ? std::pair{chunks * d, n * tiles} : std::pair{chunks * tiles, int64_t{1}};
}

inline void cuda_frame_loss_forward(int device, Address stream, int dtype, int kind,
                                    const std::vector<FrameLossEntry>& heads, int64_t t, int64_t b,
                                    int64_t d, bool vector_io, bool frames_io, int64_t row_stride,
                                    Address z, Address parts, Address arrivals, Address losses,
                                    Address total) {
  FrameLossForwardArgs args = {};
  args.shape = frame_loss_shape(device, dtype, kind, heads, t, b, d, vector_io, frames_io,
                                row_stride, args.head);
  not_null("z", z, 1);
  not_null("parts", parts, 1);
  not_null("arrivals", arrivals, 1);
  not_null("losses", losses, 1);
  not_null("total", total, 1);
  args.z = pointer(z);
  args.parts = pointer<float>(parts);
  args.arrivals = pointer<uint32_t>(arrivals);
  args.losses = pointer<float>(losses);
  args.total = pointer<float>(total);
  py::gil_scoped_release release;
  cuda::frame_loss_forward(device, pointer(stream), static_cast<DType>(dtype), args);
}

inline void cuda_frame_loss_backward(int device, Address stream, int dtype, int kind,
                                     const std::vector<FrameLossEntry>& heads, int64_t t, int64_t b,
                                     int64_t d, bool vector_io, bool frames_io, int64_t row_stride,
                                     Address z, Address grad_total, Address grad_losses,
                                     Address grad_z, Address d_z, Address parts, Address arrivals,
                                     Address d_bias) {
  FrameLossBackwardArgs args = {};
  args.shape = frame_loss_shape(device, dtype, kind, heads, t, b, d, vector_io, frames_io,
                                row_stride, args.head);
  not_null("z", z, 1);
  not_null("d_z", d_z, 1);
  not_null("parts", parts, d_bias ? 1 : 0);
  not_null("arrivals", arrivals, d_bias ? 1 : 0);
  args.z = pointer(z);
  args.grad_total = pointer<const float>(grad_total);
  args.grad_losses = pointer<const float>(grad_losses);
  args.grad_z = pointer(grad_z);
  args.d_z = pointer(d_z);
  args.parts = pointer<float>(parts);
  args.arrivals = pointer<uint32_t>(arrivals);
  args.d_bias = pointer(d_bias);
  py::gil_scoped_release release;
  cuda::frame_loss_backward(device, pointer(stream), static_cast<DType>(dtype), args);
}

inline void define_cuda_frame_loss(py::module_& m) {
  using py::arg;
  m.def("cuda_frame_loss_scratch", cuda_frame_loss_scratch, arg("N"), arg("T"), arg("B"), arg("D"),
        arg("backward"));
  m.def("cuda_frame_loss_forward", cuda_frame_loss_forward, arg("device"), arg("stream"),
        arg("dtype"), arg("kind"), arg("heads"), arg("T"), arg("B"), arg("D"), arg("vector_io"),
        arg("frames_io"), arg("row_stride"), arg("z"), arg("parts"), arg("arrivals"), arg("losses"),
        arg("total"));
  m.def("cuda_frame_loss_backward", cuda_frame_loss_backward, arg("device"), arg("stream"),
        arg("dtype"), arg("kind"), arg("heads"), arg("T"), arg("B"), arg("D"), arg("vector_io"),
        arg("frames_io"), arg("row_stride"), arg("z"), arg("grad_total"), arg("grad_losses"),
        arg("grad_z"), arg("d_z"), arg("parts"), arg("arrivals"), arg("d_bias"));
}

}  // namespace bindings
}  // namespace lstmrep
