#include "memory/small_blocks.h"

#include <c10/core/impl/alloc_cpu.h>

#include <array>
#include <vector>

#include "memory/large_blocks.h"

namespace alambic {

namespace {

// Sizes of blocks in bytes, and how much of each a thread keeps.
constexpr std::array<size_t, 4> block_sizes = {64, 256, 1024, largest_small_block};
constexpr size_t kept_bytes = size_t{64} << 10;

using FreeLists = std::array<std::vector<void*>, block_sizes.size()>;

// Null before the thread's first block and after its end, when its last tensors may still be freed.
thread_local FreeLists* free_lists = nullptr;
thread_local bool has_ended = false;

// Ends with its thread.
struct FreeListsOwner {
  FreeLists lists;
  FreeListsOwner() {
    for (size_t i = 0; i < lists.size(); i++) lists[i].reserve(kept_bytes / block_sizes[i]);
    free_lists = &lists;
  }
  ~FreeListsOwner() {
    free_lists = nullptr;
    has_ended = true;
    for (auto& list : lists)
      for (auto* block : list) c10::free_cpu(block);
  }
};

FreeLists* lists_of_this_thread() {
  if (free_lists == nullptr && !has_ended) static thread_local FreeListsOwner owner;
  return free_lists;
}

// Every block comes from alloc_cpu by itself, so that whoever does not know this file can free it.
template <size_t index>
void give_back(void* block) {
  auto* lists = idle_block_limit() > 0 ? lists_of_this_thread() : nullptr;
  if (lists == nullptr || (*lists)[index].size() == kept_bytes / block_sizes[index])
    return c10::free_cpu(block);
  (*lists)[index].push_back(block);
}

template <size_t index>
c10::DataPtr take() {
  void* block;
  auto* lists = lists_of_this_thread();
  if (lists == nullptr || (*lists)[index].empty()) {
    block = c10::alloc_cpu(block_sizes[index]);
  } else {
    block = (*lists)[index].back();
    (*lists)[index].pop_back();
  }
  return {block, block, &give_back<index>, c10::Device(c10::kCPU)};
}

}  // namespace

c10::DataPtr take_small_block(size_t bytes) {
  if (bytes <= block_sizes[0]) return take<0>();
  if (bytes <= block_sizes[1]) return take<1>();
  if (bytes <= block_sizes[2]) return take<2>();
  return take<3>();
}

}  // namespace alambic
