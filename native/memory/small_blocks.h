// Memory of small tensors on the CPU: an aligned allocation from the C library costs as much as a third of a
// small operator.
#pragma once
#include <c10/core/Allocator.h>

namespace alambic {

constexpr size_t largest_small_block = 4096;

// At least so many bytes, from blocks that the thread kept. Up to `largest_small_block`.
c10::DataPtr take_small_block(size_t bytes);

}  // namespace alambic
