// Memory of small tensors on the CPU.
#pragma once

namespace alambic {

// Makes libtorch take small CPU blocks from lists of recycled ones, kept by each thread: an aligned
// allocation from the C library costs as much as a third of a small operator. Once per process; leaves an
// allocator set by others alone.
void recycle_small_blocks();

}  // namespace alambic
