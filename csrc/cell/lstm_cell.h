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
struct CellState {
  V i, f, g, c;
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

// The first half of a step: all but o and h.
template <CellKind kCell, class Math, class V>
LSTMREP_INLINE CellState<V> cell_state(V z_i, V z_f, V z_g, V c_prev, const PeepholeValues<V>& p) {
  if (p.used) {
    z_i += p.i * c_prev;
    z_f += p.f * c_prev;
  }
  CellState<V> out;
  out.i = Math::sigmoid(z_i);
  out.f = Math::sigmoid(z_f);
  out.g = kCell == CellKind::kTanh ? Math::tanh(z_g) : Math::relu(z_g);
  out.c = out.f * c_prev + out.i * out.g;
  return out;
}

// What h takes of c.
template <CellKind kCell, class Math, class V>
LSTMREP_INLINE V cell_squashed(V c) {
  return kCell == CellKind::kTanh ? Math::tanh(c) : c;
}

// The second half: o (into the place given) and h.
template <CellKind kCell, class Math, class V>
LSTMREP_INLINE V cell_output(V z_o, V c, const PeepholeValues<V>& p, V& o) {
  if (p.used) z_o += p.o * c;
  o = Math::sigmoid(z_o);
  return o * cell_squashed<kCell, Math>(c);
}

template <CellKind kCell, class Math, class V>
LSTMREP_INLINE CellOutput<V> cell_forward(GateValues<V> z, V c_prev, const PeepholeValues<V>& p) {
  const CellState<V> s = cell_state<kCell, Math>(z.i, z.f, z.g, c_prev, p);
  CellOutput<V> out;
  out.gates.i = s.i;
  out.gates.f = s.f;
  out.gates.g = s.g;
  out.c = s.c;
  out.h = cell_output<kCell, Math>(z.o, s.c, p, out.gates.o);
  return out;
}

// squashed: cell_squashed of c.
template <CellKind kCell, class Math, class V>
LSTMREP_INLINE CellGradient<V> cell_gradient(const GateValues<V>& a, V c_prev, V squashed,
                                             const PeepholeValues<V>& p, V dh, V dc) {
  CellGradient<V> out;
  out.d.o = dh * squashed * a.o * (1 - a.o);
  dc += kCell == CellKind::kTanh ? dh * a.o * (1 - squashed * squashed) : dh * a.o;
  if (p.used) dc += out.d.o * p.o;
  out.d.i = dc * a.g * a.i * (1 - a.i);
  out.d.f = dc * c_prev * a.f * (1 - a.f);
  out.d.g =
      kCell == CellKind::kTanh ? dc * a.i * (1 - a.g * a.g) : Math::where_positive(a.g, dc * a.i);
  out.dc_prev = dc * a.f;
  if (p.used) out.dc_prev += out.d.f * p.f + out.d.i * p.i;
  return out;
}

template <CellKind kCell, class Math, class V>
LSTMREP_INLINE CellGradient<V> cell_backward(const GateValues<V>& a, V c_prev, V c,
                                             const PeepholeValues<V>& p, V dh, V dc) {
  return cell_gradient<kCell, Math>(a, c_prev, cell_squashed<kCell, Math>(c), p, dh, dc);
}

}  // namespace lstmrep
