// A program that runs one test kernel, for the builds under a sanitizer: watched NAME BLOCKS
// THREADS SHARED SEED NUMBER... Its four buffers hold 4096 zero bytes each.
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "primitive_kernels.cu"

int main(int count, char** arguments) {
  std::vector<std::vector<uint32_t>> memory(4, std::vector<uint32_t>(1024));
  Buffers buffers = {};
  for (int j = 0; j < 4; ++j) buffers.p[j] = reinterpret_cast<char*>(memory[j].data());
  auto number = [&](int j) {
    return j < count ? static_cast<uint32_t>(strtoul(arguments[j], nullptr, 10)) : 0u;
  };
  for (int j = 0; j < 6; ++j) buffers.n[j] = number(6 + j);
  const uint32_t size[] = {number(2), number(3), 1, number(4), number(5)};
  const char* error = run(arguments[1], size, &buffers);
  puts(error);
  return *error ? 1 : 0;
}
