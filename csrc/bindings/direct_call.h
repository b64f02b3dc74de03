// A pass over small tensors from torch's objects to the kernels, with no interpreter in between.
//
// Python makes one DirectCall for each kind of call it has checked and planned, and finds it again
// by the tensors' signature (lstmrep/ops/direct.py); so nothing is checked here. One recurrence,
// full lengths, all products by the CPU's own kernels.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>

#include "bindings/cpu.h"
#include "bindings/tensor_view.h"

namespace lstmrep {
namespace bindings {

class DirectCall {
 public:
  // Of one kind of call. `fresh` makes a tensor like the one it is given; `like` are tensors like
  // h [1, T, B, H], h of a layer [T, B, H], h_n, c_n [1, B, H], gates [1, T, B, 4H], c [1, T, B,
  // H], x [T, B, I], one bias [4H], and one peephole [H].
  DirectCall(int dtype, int cell, int threads, bool packed, bool by_rows, int64_t t, int64_t b,
             int64_t h, int64_t i, bool vectors_as_io, int bias_parts, bool peephole, bool reverse,
             int gradients_threads, py::object fresh, py::tuple like)
      : p_(problem_of(dtype, threads, packed, by_rows, 1, t, b, h, i)),
        sizes_(gradients_sizes(dtype, t, b, h, i, gradients_threads)),
        bias_parts_(bias_parts),
        peepholes_(peephole ? 3 : 0),
        reverse_(reverse),
        fresh_(std::move(fresh)),
        like_(std::move(like)) {
    code("cell", cell, kCells);
    require(bias_parts >= 0 && bias_parts <= 2, "bias_parts must be 0, 1 or 2");
    list_length("like", like_.size(), kLikes);
    p_.cell = cell;
    p_.vectors_as_io = vectors_as_io;
  }

  bool packed() const { return p_.packed; }

  size_t forward_bytes() const { return cpu::workspace_bytes(p_, false); }

  size_t backward_bytes() const {
    return std::max(cpu::workspace_bytes(backward_problem(), true),
                    cpu::gradients_workspace_bytes(sizes_, true));
  }

  // `flat` as the op's inputs are flattened: x, h0, c0, lengths (none), W_ih, W_hh, the biases, the
  // peepholes. Returns h, of a `layer` in its shape, h_n, c_n, gates, c, the last two none unless
  // for `training`.
  py::tuple forward(const py::tuple& flat, bool training, bool layer, Address workspace) const {
    const py::object h = made(layer ? kLayerH : kH), h_n = made(kHn), c_n = made(kCn);
    const py::object gates = training ? made(kGates) : py::none();
    const py::object c = training ? made(kC) : py::none();
    Inputs in(*this, flat, 0);
    CpuForwardArgs a = {};
    a.p = in.problem(p_, workspace);
    in.give_x(a);
    a.w_ih = &in.w_ih;
    a.bias = in.bias;
    a.bias_parts = bias_parts_;
    a.h0 = in.h0;
    a.h = address(h);
    a.h_n = address(h_n);
    a.c_n = address(c_n);
    a.gates = address(gates);
    a.c = address(c);
    {
      py::gil_scoped_release release;
      cpu::forward(a);
    }
    return py::make_tuple(h, h_n, c_n, gates, c);
  }

  // `tensors` are the gradients of h, h_n and c_n, the saved h, gates and c, and the inputs as
  // above; `needs` says of each argument of the autograd function, whose first is no tensor,
  // whether it wants a gradient. Returns the gradients in the same order.
  py::tuple backward(const py::tuple& tensors, const py::tuple& needs, Address d_gates,
                     Address workspace) const {
    const auto wanted = [&needs](int from, int count) {
      for (int k = from; k < from + count; ++k) {
        if (PyObject_IsTrue(PyTuple_GET_ITEM(needs.ptr(), 1 + k))) return true;
      }
      return false;
    };
    const auto like = [&](int place) -> py::object {
      return wanted(place, 1) ? fresh(tensors[kPassed + place]) : py::none();
    };
    const int biases = kBias, peepholes = kBias + bias_parts_;
    const bool vectors = wanted(biases, bias_parts_ + peepholes_);
    const py::object d_x = wanted(kX, 1) ? made(kLikeX) : py::none();
    const py::object d_h0 = like(kH0), d_c0 = like(kC0), d_w_ih = like(kWIh), d_w_hh = like(kWHh);
    const py::object d_bias = vectors && bias_parts_ ? made(kOneBias) : py::none();
    py::object d_peephole[3] = {py::none(), py::none(), py::none()};
    void* d_peephole_at[3] = {};
    const int peephole_sums = vectors ? peepholes_ : 0;
    for (int k = 0; k < peephole_sums; ++k) {
      d_peephole[k] = made(kOnePeephole);
      d_peephole_at[k] = address(d_peephole[k]);
    }

    Inputs in(*this, tensors, kPassed);
    CpuBackwardArgs b = {};
    b.p = in.problem(backward_problem(), workspace);
    b.grad_h = address(tensors[kGradH]);
    b.grad_h_n = address(tensors[kGradHn]);
    b.grad_c_n = address(tensors[kGradCn]);
    b.gates = address(tensors[kSavedGates]);
    b.c = address(tensors[kSavedC]);
    b.d_gates = pointer(d_gates);
    b.d_h0 = address(d_h0);
    b.d_c0 = address(d_c0);
    b.d_bias = address(d_bias);
    b.d_peephole = peephole_sums ? d_peephole_at : nullptr;

    CpuGradientsArgs g = sizes_;
    g.d_gates = pointer(d_gates);
    in.give_x(g);
    g.w_ih = in.w_ih;
    g.h_out = address(tensors[kSavedH]);
    g.h0 = in.h0;
    g.reverse = reverse_;
    g.d_x = address(d_x);
    g.d_w_ih = address(d_w_ih);
    g.d_w_hh = address(d_w_hh);
    g.workspace = pointer(workspace);
    {
      py::gil_scoped_release release;
      cpu::backward(b);
      if (g.d_x || g.d_w_ih || g.d_w_hh) cpu::gradients(g);
    }
    py::tuple out(needs.size());
    const auto put = [&out](int place, const py::object& gradient) { out[1 + place] = gradient; };
    out[0] = py::none();
    put(kX, d_x);
    put(kH0, d_h0);
    put(kC0, d_c0);
    put(kLengths, py::none());
    put(kWIh, d_w_ih);
    put(kWHh, d_w_hh);
    for (int k = 0; k < bias_parts_; ++k) put(biases + k, d_bias);
    for (int k = 0; k < peepholes_; ++k) put(peepholes + k, d_peephole[k]);
    return out;
  }

 private:
  enum Like { kH, kLayerH, kHn, kCn, kGates, kC, kLikeX, kOneBias, kOnePeephole, kLikes };
  enum Input { kX, kH0, kC0, kLengths, kWIh, kWHh, kBias };  // peepholes follow the biases
  // Of a backward pass, before the inputs.
  enum Passed { kGradH, kGradHn, kGradCn, kSavedH, kSavedGates, kSavedC, kPassed };

  // Addresses of the inputs, and the storage behind the arrays that a problem points to.
  struct Inputs {
    TensorView x;
    const void *w_ih, *w_hh, *bias[2], *peephole[3], *h0, *c0;
    bool reverse, has_peephole;

    Inputs(const DirectCall& call, const py::tuple& tensors, int at) {
      read(tensors[at + kX], &x);
      h0 = address(tensors[at + kH0]);
      c0 = address(tensors[at + kC0]);
      w_ih = address(tensors[at + kWIh]);
      w_hh = address(tensors[at + kWHh]);
      at += kBias;
      for (int k = 0; k < call.bias_parts_; ++k) bias[k] = address(tensors[at++]);
      for (int k = 0; k < call.peepholes_; ++k) peephole[k] = address(tensors[at++]);
      reverse = call.reverse_;
      has_peephole = call.peepholes_ > 0;
    }

    template <class Args>
    void give_x(Args& args) const {
      args.x = x.address();
      args.x_t = x.strides[0];
      args.x_b = x.strides[1];
    }

    CpuProblem problem(CpuProblem p, Address workspace) const {
      p.w_hh = &w_hh;
      p.peephole = has_peephole ? peephole : nullptr;
      p.c0 = c0;
      p.reverse = &reverse;
      p.workspace = pointer(workspace);
      return p;
    }
  };

  static void read(py::handle tensor, TensorView* view) {
    if (!reader().read(tensor.ptr(), view)) refuse("a plain tensor on the CPU is expected");
  }

  static void* address(py::handle tensor) {
    if (tensor.is_none()) return nullptr;
    TensorView view;
    read(tensor, &view);
    return view.address();
  }

  py::object fresh(py::handle like) const {
    PyObject* made = PyObject_CallOneArg(fresh_.ptr(), like.ptr());
    if (!made) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
  }

  py::object made(Like which) const { return fresh(like_[which]); }

  CpuProblem backward_problem() const {
    CpuProblem p = p_;
    p.i = 0;
    return p;
  }

  CpuProblem p_;
  CpuGradientsArgs sizes_;
  int bias_parts_, peepholes_;
  bool reverse_;
  py::object fresh_;
  py::tuple like_;
};

}  // namespace bindings
}  // namespace lstmrep
