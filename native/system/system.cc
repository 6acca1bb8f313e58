#include "system/system.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include "compat.h"
#include "environment.h"
#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace {

// The file that a function really comes from: tells whether the process is bound to the libtorch that was
// chosen.
std::string library_of(const void* symbol) {
  Dl_info found;
  return dladdr(symbol, &found) && found.dli_fname ? found.dli_fname : "";
}

std::string cpu_capability() {
#if ALAMBIC_TORCH_AT_LEAST(2, 0)
  return at::get_cpu_capability();
#else
  auto config = at::show_config();
  std::string mark = "CPU capability usage: ";
  auto start = config.find(mark);
  if (start == std::string::npos) return "DEFAULT";
  start += mark.size();
  return config.substr(start, config.find('\n', start) - start);
#endif
}

Napi::Value system_info(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  auto object = Napi::Object::New(env);
  object.Set("torchVersion", std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) +
                                 "." + std::to_string(TORCH_VERSION_PATCH));
  object.Set("libtorchPath", library_of(reinterpret_cast<const void*>(&at::show_config)));
  object.Set("c10Path", library_of(reinterpret_cast<const void*>(&c10::GetAllocator)));
  object.Set("openmp", at::hasOpenMP());
  object.Set("mkl", at::hasMKL());
  object.Set("onednn", at::hasMKLDNN());
  object.Set("lapack", at::hasLAPACK());
  object.Set("cpuCapability", cpu_capability());
  object.Set("cuda", at::hasCUDA());
  object.Set("cudaDevices", at::hasCUDA() ? static_cast<double>(at::getNumGPUs()) : 0.0);
  object.Set("cudaBFloat16",
             at::hasCUDA() && at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8());
  object.Set("config", at::show_config());
  return object;
}

Napi::Value num_threads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), at::get_num_threads());
}

Napi::Value set_num_threads(const Napi::CallbackInfo& info) {
  auto count = to_integer(info[0], "threads");
  if (count < 1 || count > 4096)
    fail("ERR_ARGUMENT", "setNumThreads: expected 1 to 4096 threads, got ", count);
  at::set_num_threads(static_cast<int>(count));
  return info.Env().Undefined();
}

// Operators without a deterministic implementation raise an error instead.
Napi::Value use_deterministic_algorithms(const Napi::CallbackInfo& info) {
  at::globalContext().setDeterministicAlgorithms(to_bool(info[0], "deterministic"), /*warn_only=*/false);
  return info.Env().Undefined();
}

Napi::Value set_error_class(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).error_class = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

}  // namespace

void export_system(Napi::Env env, Napi::Object exports) {
  exports.Set("systemInfo", Napi::Function::New<guarded<system_info>>(env));
  exports.Set("numThreads", Napi::Function::New<guarded<num_threads>>(env));
  exports.Set("setNumThreads", Napi::Function::New<guarded<set_num_threads>>(env));
  exports.Set("useDeterministicAlgorithms", Napi::Function::New<guarded<use_deterministic_algorithms>>(env));
  exports.Set("setErrorClass", Napi::Function::New<guarded<set_error_class>>(env));
}

}  // namespace alambic
