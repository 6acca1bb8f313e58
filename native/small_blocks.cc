#include "small_blocks.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <array>
#include <cstring>
#include <mutex>
#include <vector>

namespace alambic {

namespace {

// Sizes of blocks in bytes, and how much of each a thread keeps.
constexpr std::array<size_t, 4> block_sizes = {64, 256, 1024, 4096};
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
  auto* lists = lists_of_this_thread();
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

// Some members are const in some versions of libtorch, or not there: `override` would bind this to one of
// them.
class RecyclingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) { return take_block(bytes); }
  c10::DataPtr allocate(size_t bytes) const { return take_block(bytes); }
  c10::DeleterFnPtr raw_deleter() const { return c10::GetDefaultCPUAllocator()->raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t count) const { std::memcpy(to, from, count); }

 private:
  static c10::DataPtr take_block(size_t bytes) {
    if (bytes == 0 || bytes > block_sizes[3]) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    if (bytes <= block_sizes[0]) return take<0>();
    if (bytes <= block_sizes[1]) return take<1>();
    if (bytes <= block_sizes[2]) return take<2>();
    return take<3>();
  }
};

}  // namespace

void recycle_small_blocks() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (c10::GetCPUAllocator() != c10::GetDefaultCPUAllocator()) return;
    static auto* allocator =
        new RecyclingAllocator();  // never destroyed: storages refer to it to the very end
    c10::SetCPUAllocator(allocator);
  });
}

}  // namespace alambic
