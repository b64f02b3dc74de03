// The LSTM cell: one step of one unit, forward and backward. The only C++ copy of the equations.
//
// Gates in order i, f, g, o; peephole vectors in order i, f, o; a prime marks the previous step;
// z_* are the pre-activations without the peephole terms (x + W h' + b), s is the logistic
// function:
//   i = s(z_i + p_i c')   f = s(z_f + p_f c')   g = tanh(z_g)
//   c = f c' + i g        o = s(z_o + p_o c)    h = o tanh(c)
// The relu cell has g = relu(z_g), h = o c, and derivative 0 of relu at 0.
// Backward, exact (dh, dc: gradients of h and of c, the latter from the step after):
//   do = dh tanh(c) o (1-o)      dc += do p_o + dh o (1 - tanh(c)^2)
//   di = dc g i (1-i)            df = dc c' f (1-f)       dg = dc i (1 - g^2)
//   dc' = dc f + df p_f + di p_i
// V is the value type (float, double or a vector of them). Math is the policy that supplies
// sigmoid(V), tanh(V), relu(V) and where_positive(x, y) = (x > 0 ? y : 0).
// Not done here: loads, stores, rounding to the I/O type, sums over time and batch.
#pragma once

#if defined(__CUDACC__)
#define LSTMREP_INLINE __host__ __device__ __forceinline__
#else
#define LSTMREP_INLINE inline __attribute__((always_inline))
#endif

namespace lstmrep {

enum class CellKind : int { kTanh = 0, kRelu = 1 };

constexpr int kGates = 4;      // i, f, g, o
constexpr int kPeepholes = 3;  // i, f, o

template <class V>
struct GateValues {
  V i, f, g, o;
};

// Without peepholes the products are skipped instead of multiplied by zero: 0 * inf is NaN.
template <class V>
struct PeepholeValues {
  bool used;
  V i, f, o;
};

template <class V>
struct CellOutput {
  GateValues<V> gates;
  V c, h;
};

template <class V>
struct CellGradient {
  GateValues<V> d;  // gradients of the pre-activations
  V dc_prev;
};

template <CellKind kCell, class Math, class V>
LSTMREP_INLINE CellOutput<V> cell_forward(GateValues<V> z, V c_prev, const PeepholeValues<V>& p) {
  if (p.used) {
    z.i += p.i * c_prev;
    z.f += p.f * c_prev;
  }
  CellOutput<V> out;
  out.gates.i = Math::sigmoid(z.i);
  out.gates.f = Math::sigmoid(z.f);
  out.gates.g = kCell == CellKind::kTanh ? Math::tanh(z.g) : Math::relu(z.g);
  out.c = out.gates.f * c_prev + out.gates.i * out.gates.g;
  if (p.used) z.o += p.o * out.c;
  out.gates.o = Math::sigmoid(z.o);
  out.h = out.gates.o * (kCell == CellKind::kTanh ? Math::tanh(out.c) : out.c);
  return out;
}

template <CellKind kCell, class Math, class V>
LSTMREP_INLINE CellGradient<V> cell_backward(const GateValues<V>& a, V c_prev, V c,
                                             const PeepholeValues<V>& p, V dh, V dc) {
  CellGradient<V> out;
  if (kCell == CellKind::kTanh) {
    const V tanh_c = Math::tanh(c);
    out.d.o = dh * tanh_c * a.o * (1 - a.o);
    dc += dh * a.o * (1 - tanh_c * tanh_c);
  } else {
    out.d.o = dh * c * a.o * (1 - a.o);
    dc += dh * a.o;
  }
  if (p.used) dc += out.d.o * p.o;
  out.d.i = dc * a.g * a.i * (1 - a.i);
  out.d.f = dc * c_prev * a.f * (1 - a.f);
  out.d.g =
      kCell == CellKind::kTanh ? dc * a.i * (1 - a.g * a.g) : Math::where_positive(a.g, dc * a.i);
  out.dc_prev = dc * a.f;
  if (p.used) out.dc_prev += out.d.f * p.f + out.d.i * p.i;
  return out;
}

}  // namespace lstmrep
