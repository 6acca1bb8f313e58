#include "tensors/handle_table.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <new>

#include "errors.h"

namespace alambic {

namespace {

// Numbers of environments. One that ended leaves its number to a later one, together with the generation of
// each slot to go on from: a handle kept from the dead environment never names a tensor of the new one. A
// slot that is worn out stays so under this number, the other two million go on: with a million tensors a
// second a number lasts for a year.
class EnvironmentNumbers {
 public:
  uint32_t take(size_t slots) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (uint32_t number = 0; number < numbers_.size(); number++) {
      auto& each = numbers_[number];
      if (each.is_used || each.worn_out > slots / 2) continue;
      each.is_used = true;
      return number;
    }
    fail("ERR_THREAD", "more than ", numbers_.size(),
         " threads use Alambic at once: let workers end, or share them");
  }
  // That a slot begins with under this number.
  uint32_t generation(uint32_t number, size_t slot) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto& generations = numbers_[number].generations;
    return slot < generations.size() ? generations[slot] : 0;
  }
  // With the generations of the slots that were used.
  template <typename Slots, typename IsWornOut>
  void give_back(uint32_t number, const Slots& slots, IsWornOut is_worn_out) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& each = numbers_[number];
    each.generations.resize(std::max(each.generations.size(), slots.size()));
    for (size_t i = 0; i < slots.size(); i++) each.generations[i] = slots[i].generation;
    each.worn_out = std::count_if(each.generations.begin(), each.generations.end(), is_worn_out);
    each.is_used = false;
  }

 private:
  struct Number {
    bool is_used = false;
    std::vector<uint32_t> generations;
    size_t worn_out = 0;
  };
  std::mutex mutex_;
  std::array<Number, 256> numbers_;
};

// Never destroyed: environments end while the process does.
EnvironmentNumbers& environment_numbers() {
  static auto& numbers = *new EnvironmentNumbers;
  return numbers;
}

}  // namespace

HandleTable::HandleTable() : environment_(environment_numbers().take(slot_mask)), slots_(1) {}

HandleTable::~HandleTable() {
  try {
    environment_numbers().give_back(environment_, slots_,
                                    [](uint32_t generation) { return generation >= generation_limit; });
  } catch (const std::bad_alloc&) {  // better to lose the number than to use a handle twice
  }
}

// One that no tensor has, with a generation left.
uint32_t HandleTable::take_slot() {
  if (free_ != 0) return std::exchange(free_, slots_[free_].next_free);
  while (slots_.size() <= slot_mask) {
    auto index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back().generation = environment_numbers().generation(environment_, index);
    if (slots_[index].generation < generation_limit) return index;
  }
  fail("ERR_OUT_OF_MEMORY", "more than ", live_, " tensors are alive at once: dispose of what is not needed");
}

Handle HandleTable::insert(at::Tensor tensor) {
  TORCH_INTERNAL_ASSERT(tensor.defined());
  auto index = take_slot();
  auto& slot = slots_[index];
  slot.tensor = std::move(tensor);
  count_storage(slot);
  slot.handle = (uint64_t{slot.generation} << (slot_bits + environment_bits)) |
                (uint64_t{environment_} << slot_bits) | index;
  slot.generation++;
  live_++;
  change_ += tensor_overhead;
  return slot.handle;
}

void HandleTable::replace(Handle handle, at::Tensor tensor) {
  get(handle);
  auto& slot = slots_[handle & slot_mask];
  uncount_storage(slot);
  slot.tensor = std::move(tensor);
  count_storage(slot);
}

void HandleTable::lock(Handle handle) {
  auto entry = locks_.find(handle);
  if (entry == locks_.end()) {
    get(handle);
    entry = locks_.emplace(handle, Lock{0, false}).first;
    slots_[handle & slot_mask].handle = handle | busy;
  }
  if (entry->second.is_released) refuse(handle);
  entry->second.count++;
}

void HandleTable::unlock(Handle handle) {
  auto entry = locks_.find(handle);
  if (entry == locks_.end() || --entry->second.count > 0) return;
  bool is_released = entry->second.is_released;
  locks_.erase(entry);
  slots_[handle & slot_mask].handle = handle;
  if (is_released) release(handle);
}

void HandleTable::recount() {
  auto before = static_cast<int64_t>(bytes_);
  auto change = change_;
  storages_.clear();
  bytes_ = 0;
  for (auto& slot : slots_)
    if (slot.tensor.defined()) count_storage(slot);
  change_ = change + static_cast<int64_t>(bytes_) - before;
}

bool HandleTable::release(Handle handle) {
  auto index = handle & slot_mask;
  if (auto locked = locks_.empty() ? locks_.end() : locks_.find(handle); locked != locks_.end())
    return !std::exchange(locked->second.is_released, true);
  if (handle == 0 || index >= slots_.size() || slots_[index].handle != handle) return false;
  auto& slot = slots_[index];
  uncount_storage(slot);
  slot.tensor = at::Tensor();
  slot.handle = 0;
  live_--;
  change_ -= tensor_overhead;
  if (slot.generation < generation_limit) {  // a worn-out slot retires: its numbers would repeat
    slot.next_free = free_;
    free_ = static_cast<uint32_t>(index);
  }
  return true;
}

void HandleTable::refuse(Handle handle) const {
  auto environment = (handle >> slot_bits) & ((1u << environment_bits) - 1);
  if (handle != 0 && environment != environment_)
    fail("ERR_OTHER_THREAD",
         "the tensor belongs to another thread: tensors are not shared between threads; send its data "
         "(toTypedArray) instead");
  auto locked = locks_.find(handle);
  if (locked != locks_.end() && !locked->second.is_released)
    fail("ERR_BUSY",
         "the tensor is being trained by a compiled step in another thread: wait for the training, or look "
         "at it in "
         "onStep or onEpoch, which are called between the steps");
  fail("ERR_TENSOR_RELEASED",
       "the tensor was released before (by dispose(), `using`, or the end of a scope()): keep it with "
       "keep(), or "
       "return it from the scope");
}

void HandleTable::count_storage(Slot& slot) {
  const auto& storage = slot.tensor.unsafeGetTensorImpl()->unsafe_storage();  // none of a sparse tensor
  slot.storage = storage.unsafeGetStorageImpl();
  if (slot.storage == nullptr) return;
  auto [entry, is_new] = storages_.emplace(slot.storage, Storage{0, 0});
  if (is_new) {
    entry->second.bytes = storage.device_type() == at::kMeta ? 0 : storage.nbytes();
    bytes_ += entry->second.bytes;
    change_ += static_cast<int64_t>(entry->second.bytes);
  }
  entry->second.handles++;
}

void HandleTable::uncount_storage(Slot& slot) {
  if (slot.storage == nullptr) return;
  auto entry = storages_.find(slot.storage);
  if (--entry->second.handles > 0) return;
  bytes_ -= entry->second.bytes;
  change_ -= static_cast<int64_t>(entry->second.bytes);
  storages_.erase(entry);
}

}  // namespace alambic
