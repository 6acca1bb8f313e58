#include "handle_table.h"

#include <array>
#include <mutex>

#include "errors.h"

namespace alambic {

namespace {

// Numbers of environments. One that ended leaves its number to a later one together with the generation to
// start from, so that a handle kept from the dead environment never names a tensor of the new one.
class EnvironmentNumbers {
 public:
  std::pair<uint32_t, uint32_t> take() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (uint32_t number = 0; number < used_.size(); number++) {
      if (used_[number] || generation_[number] >= exhausted) continue;
      used_[number] = true;
      return {number, generation_[number]};
    }
    fail("ERR_NATIVE", "more than ", used_.size(), " threads hold tensors at once");
  }
  void give_back(uint32_t number, uint32_t next_generation) {
    std::lock_guard<std::mutex> lock(mutex_);
    used_[number] = false;
    generation_[number] = next_generation;
  }

 private:
  static constexpr uint32_t exhausted = (1u << 24) - 1;
  std::mutex mutex_;
  std::array<bool, 256> used_{};
  std::array<uint32_t, 256> generation_{};
};

EnvironmentNumbers& environment_numbers() {
  static EnvironmentNumbers numbers;
  return numbers;
}

}  // namespace

HandleTable::HandleTable() : slots_(1) {
  std::tie(environment_, first_generation_) = environment_numbers().take();
}

HandleTable::~HandleTable() {
  uint32_t next = first_generation_;
  for (auto& slot : slots_) next = std::max(next, slot.generation);
  environment_numbers().give_back(environment_, next);
}

Handle HandleTable::insert(at::Tensor tensor) {
  TORCH_INTERNAL_ASSERT(tensor.defined());
  uint32_t index = free_;
  if (index != 0) {
    free_ = slots_[index].next_free;
  } else {
    if (slots_.size() > slot_mask)
      fail("ERR_OUT_OF_MEMORY", "more than ", slot_mask,
           " tensors are alive at once: dispose of what is not needed");
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back().generation = first_generation_;
  }
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
  auto [entry, is_new] = locks_.try_emplace(handle, Lock{0, false});
  if (is_new) {
    try {
      get(handle);
    } catch (...) {
      locks_.erase(entry);
      throw;
    }
    slots_[handle & slot_mask].handle = handle | busy;
  }
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
