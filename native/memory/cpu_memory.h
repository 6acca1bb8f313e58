// Where tensors on the CPU lie.
#pragma once
#include <napi.h>

namespace alambic {

// recycleCpuMemory, limitIdleMemory, releaseIdleMemory.
void export_cpu_memory(Napi::Env env, Napi::Object exports);

}  // namespace alambic
