#include "cuda/find_library.h"

#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <mutex>

#include "errors.h"
#include "tensors/values.h"

namespace alambic::cuda {

namespace {

// One per process, as libtorch is.
struct State {
  std::mutex mutex;
  std::string path;
  bool was_tried = false;
  const Library* library = nullptr;
  std::string problem = "set-up built no CUDA library for this libtorch";
};

State& state() {
  static State one;
  return one;
}

void open(State& state) {
  state.was_tried = true;
  if (state.path.empty()) return;
  auto* handle = dlopen(state.path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    state.problem = dlerror();
    return;
  }
  auto* entry = reinterpret_cast<Entry*>(dlsym(handle, entry_name));
  const auto* found = entry == nullptr ? nullptr : entry();
  if (found == nullptr || found->interface_version != interface_version) {
    state.problem = state.path + " belongs to another version of Alambic: run set-up again";
    return;
  }
  state.library = found;
  state.problem.clear();
}

// setCudaLibrary(path | undefined)
Napi::Value set_cuda_library(const Napi::CallbackInfo& info) {
  std::lock_guard<std::mutex> lock(state().mutex);
  if (state().was_tried || info[0].IsUndefined()) return info.Env().Undefined();
  state().path = to_text(info[0], "path");
  return info.Env().Undefined();
}

// cudaLibrary() -> { problem | undefined, kernels }. Opens it.
Napi::Value cuda_library(const Napi::CallbackInfo& info) {
  auto object = Napi::Object::New(info.Env());
  const auto* opened = library();
  object.Set("kernels", opened != nullptr && opened->losses != nullptr);
  if (opened == nullptr) object.Set("problem", why_no_library());
  return object;
}

// deviceMemory(device) -> { allocated, reserved, peakAllocated, peakReserved }
Napi::Value device_memory(const Napi::CallbackInfo& info) {
  auto device = parse_device(to_text(info[0], "device"));
  if (!device.is_cuda())
    fail("ERR_DEVICE", "deviceMemory: device: expected a GPU such as \"cuda\" or \"cuda:0\", got \"",
         device.str(), "\"; memory() counts what tensors hold on the CPU");
  const auto* opened = library();
  if (opened == nullptr)
    fail("ERR_NOT_IMPLEMENTED", "deviceMemory: this takes the CUDA library: ", why_no_library());
  at::globalContext().defaultGenerator(device);  // starts CUDA, before which the allocator knows no GPU
  auto current = c10::impl::VirtualGuardImpl(at::kCUDA).getDevice();
  auto memory = opened->memory(device.has_index() ? device.index() : current.index());
  auto object = Napi::Object::New(info.Env());
  object.Set("allocated", static_cast<double>(memory.allocated.current));
  object.Set("reserved", static_cast<double>(memory.reserved.current));
  object.Set("peakAllocated", static_cast<double>(memory.allocated.peak));
  object.Set("peakReserved", static_cast<double>(memory.reserved.peak));
  return object;
}

}  // namespace

const Library* library() {
  std::lock_guard<std::mutex> lock(state().mutex);
  if (!state().was_tried) open(state());
  return state().library;
}

const LossKernels* loss_kernels() {
  const auto* opened = library();
  return opened == nullptr ? nullptr : opened->losses;
}

std::string why_no_library() {
  std::lock_guard<std::mutex> lock(state().mutex);
  return state().problem;
}

void export_cuda_library(Napi::Env env, Napi::Object exports) {
  exports.Set("setCudaLibrary", Napi::Function::New<guarded<set_cuda_library>>(env));
  exports.Set("deviceMemory", Napi::Function::New<guarded<device_memory>>(env));
  exports.Set("cudaLibrary", Napi::Function::New<guarded<cuda_library>>(env));
}

}  // namespace alambic::cuda
