// Instruction sets: which were compiled, which this machine runs, which is in use.
//
// Compiled with the baseline flags only. The choice is one atomic index; besides it a thread keeps
// only whether it may start a team.
#include "cpu/dispatch.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <stdexcept>

#include "common/counters.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#define LSTMREP_X86 1
#endif
#if defined(_OPENMP)
#include <pthread.h>
#endif
#if defined(LSTMREP_HAS_AMX) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace lstmrep {
namespace cpu {
namespace {

struct Isa {
  const char* name;
  const CpuKernels& (*kernels)();
  bool (*runs_here)();
};

#if defined(LSTMREP_X86) && (defined(LSTMREP_HAS_AVX2) || defined(LSTMREP_HAS_AVX512))
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) &&
         (c & bit_F16C);  // not in __builtin_cpu_supports of old compilers
}

// __builtin_cpu_supports also asks whether the operating system saves the registers.
bool runs_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
#endif
#if defined(LSTMREP_HAS_AVX512)
bool runs_avx512() {
  return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
}
#endif
#if defined(LSTMREP_HAS_AVX512_BF16)
bool runs_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return runs_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
}
#endif
#if defined(LSTMREP_HAS_AMX)
// A process must ask the system for tiles before it uses one; the answer holds for all its threads.
bool system_grants_tiles() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
bool runs_amx() {
  constexpr unsigned kBFloat16 = 1u << 22, kTile = 1u << 24;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return runs_avx512_bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kBFloat16) &&
         (d & kTile) && system_grants_tiles();
}
#endif
bool always() { return true; }

constexpr Isa kIsas[] = {
    {"baseline", cpu_kernels_baseline, always},
#if defined(LSTMREP_HAS_AVX2)
    {"avx2", cpu_kernels_avx2, runs_avx2},
#endif
#if defined(LSTMREP_HAS_AVX512)
    {"avx512", cpu_kernels_avx512, runs_avx512},
#endif
#if defined(LSTMREP_HAS_AVX512_BF16)
    {"avx512_bf16", cpu_kernels_avx512_bf16, runs_avx512_bf16},
#endif
#if defined(LSTMREP_HAS_AMX)
    {"amx", cpu_kernels_amx, runs_amx},
#endif
};
constexpr int kIsaCount = sizeof(kIsas) / sizeof(kIsas[0]);

// Asked once: under a hypervisor each cpuid costs microseconds.
bool usable(int j) {
  static const auto answers = [] {
    std::array<bool, kIsaCount> runs = {};
    for (int k = 0; k < kIsaCount; ++k) runs[k] = kIsas[k].runs_here();
    return runs;
  }();
  return answers[j];
}

int best_usable() {
  int best = 0;
  for (int j = 0; j < kIsaCount; ++j) {
    if (usable(j)) best = j;
  }
  return best;
}

std::atomic<int>& chosen() {
  static std::atomic<int> index{best_usable()};
  return index;
}

const CpuKernels& kernels() { return kIsas[chosen().load()].kernels(); }

// GNU OpenMP keeps a pool of threads for each thread that started a team. A fork leaves those
// threads behind but not the pool: in the child, the next team of the thread that forked would wait
// for them for ever. That thread runs alone there; threads made in the child get their own pools.
thread_local bool has_pool = false;
thread_local bool lost_pool = false;

int team_size(int threads) {
#if defined(_OPENMP)
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { lost_pool = lost_pool || has_pool; });
  (void)registered;
#endif
  if (lost_pool) return 1;
  has_pool = has_pool || threads > 1;
  return threads;
}

}  // namespace

std::vector<std::string> isas_built() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas) names.push_back(isa.name);
  return names;
}

std::vector<std::string> isas_usable() {
  std::vector<std::string> names;
  for (int j = 0; j < kIsaCount; ++j) {
    if (usable(j)) names.push_back(kIsas[j].name);
  }
  return names;
}

std::string isa() { return kIsas[chosen().load()].name; }

void set_isa(const std::string& name) {
  std::string others;
  for (int j = 0; j < kIsaCount; ++j) {
    if (!usable(j)) continue;
    if (name == kIsas[j].name) {
      chosen().store(j);
      return;
    }
    others += std::string(others.empty() ? "" : ", ") + kIsas[j].name;
  }
  throw std::invalid_argument("name: instruction set '" + name +
                              "' is not usable here; usable: " + others);
}

size_t workspace_bytes(const CpuProblem& problem, bool backward) {
  size_t bytes = 0;
  for (int j = 0; j < kIsaCount; ++j) {
    if (usable(j)) bytes = std::max(bytes, kIsas[j].kernels().workspace_bytes(problem, backward));
  }
  return bytes;
}

void forward(CpuForwardArgs args) {
  count(Counter::kCpuForward);
  args.p.threads = team_size(args.p.threads);
  kernels().forward(args);
}

void backward(CpuBackwardArgs args) {
  count(Counter::kCpuBackward);
  args.p.threads = team_size(args.p.threads);
  kernels().backward(args);
}

size_t gradients_workspace_bytes(const CpuGradientsArgs& args, bool input) {
  size_t bytes = 0;
  for (int j = 0; j < kIsaCount; ++j) {
    if (usable(j))
      bytes = std::max(bytes, kIsas[j].kernels().gradients_workspace_bytes(args, input));
  }
  return bytes;
}

void gradients(CpuGradientsArgs args) {
  count(Counter::kCpuGradients);
  args.threads = team_size(args.threads);
  kernels().gradients(args);
}

size_t pack_bytes(DType dtype, int64_t h) { return kernels().pack_bytes(dtype, h); }

void pack(DType dtype, int64_t h, const void* w_hh, void* pack) {
  kernels().pack(dtype, h, w_hh, pack);
}

void math(int f, const float* x, float* y, int64_t n) { kernels().math(f, x, y, n); }

}  // namespace cpu
}  // namespace lstmrep
