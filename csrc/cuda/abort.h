// One word a device by which a kernel that waits for other CTAs tells the host that it gave up.
//
// Pinned host memory, mapped for every device: the kernel stores a code other than 0 there with a
// store of system scope, the host looks without a CUDA call. Nothing is allocated until a launch
// asks for the word, and it is never freed: a kernel may still be running when the process ends.
// No CUDA headers here.
#pragma once

#include <cstdint>
#include <vector>

namespace lstmrep {
namespace cuda {

constexpr int kAbortDevices = 64;

// Address of the word as kernels on `device` see it; the word is made at the first call, which may
// be during stream capture. device: 0..kAbortDevices-1.
uint32_t* abort_word(int device);

// The code that a kernel on `device` left since the last call, and 0 in its place; 0: none gave up.
uint32_t take_abort(int device);

std::vector<int> abort_devices();  // those that have a word

}  // namespace cuda
}  // namespace lstmrep
