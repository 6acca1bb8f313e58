// The entry of the CUDA library.
#include "cuda/library.h"

#include <c10/cuda/CUDACachingAllocator.h>

#include "cuda/graph_runner.h"
#ifdef ALAMBIC_CUDA_KERNELS
#include "cuda/losses.h"
#endif

namespace alambic::cuda {

namespace {

step::StepRunner* make_graph_runner(int64_t device_index) {
  return new GraphRunner(static_cast<c10::DeviceIndex>(device_index));
}

DeviceMemory memory(int64_t device_index) {
  auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(device_index));
  const auto& allocated = stats.allocated_bytes[0];  // 0: of small and large blocks
  const auto& reserved = stats.reserved_bytes[0];
  return {{allocated.current, allocated.peak}, {reserved.current, reserved.peak}};
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const Library* alambic_cuda_library() {
#ifdef ALAMBIC_CUDA_KERNELS
  static const Library library{interface_version, make_graph_runner, memory, make_loss_kernels()};
#else
  static const Library library{interface_version, make_graph_runner, memory, nullptr};
#endif
  return &library;
}

}  // namespace alambic::cuda
