// Where tensors on the CPU lie.
#pragma once
#include <napi.h>

namespace alambic {

// Makes libtorch take CPU memory from blocks that are used again and again. Once per process; leaves an
// allocator set by others alone.
void recycle_cpu_memory();

// limitIdleMemory, releaseIdleMemory.
void export_cpu_memory(Napi::Env env, Napi::Object exports);

}  // namespace alambic
