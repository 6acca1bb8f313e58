// Reading, freezing and writing TorchScript, off the JavaScript thread.
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "compat.h"
#include "environment.h"
#include "errors.h"
#include "script/job.h"
#include "script/script_module.h"
#include "script/tap_arguments.h"
#include "script/taps.h"
#include "tensors/values.h"

namespace alambic::script {

namespace {

using torch::jit::Module;

// The bytes of a Buffer that JavaScript keeps alive and unchanged meanwhile.
class MemoryReader : public caffe2::serialize::ReadAdapterInterface {
 public:
  MemoryReader(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  size_t size() const override { return size_; }
  size_t read(uint64_t position, void* buffer, size_t count, const char*) const override {
    if (position >= size_) return 0;
    auto available = std::min<size_t>(count, size_ - position);
    std::memcpy(buffer, data_ + position, available);
    return available;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

void convert_floats(const Module& module, at::ScalarType dtype) {
  auto convert = [&](at::Tensor tensor) {
    if (at::isFloatingType(tensor.scalar_type())) tensor.set_data(tensor.detach().to(dtype));
  };
  for (const at::Tensor& parameter : module.parameters()) convert(parameter);
  for (const at::Tensor& buffer : module.buffers()) convert(buffer);
}

// One line, as a reason. libtorch adds where in its own sources it gave up.
std::string reason_of(const CodedError& error) {
  std::string message = error.what();
  constexpr size_t most = 600;
  if (message.size() > most) message = message.substr(0, most) + " …";
  return message;
}

// loadScript(bytes, name, device | undefined, dtype | undefined) -> promise of a module
Napi::Value load(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray()) fail("ERR_ARGUMENT", "bytes: expected a Uint8Array");
  auto bytes = info[0].As<Napi::Uint8Array>();
  auto kept = std::make_shared<Napi::Reference<Napi::Uint8Array>>(Napi::Persistent(bytes));
  auto reader = std::make_shared<MemoryReader>(bytes.Data(), bytes.ByteLength());
  auto name = to_text(info[1], "name");
  optional<at::Device> device;
  if (!info[2].IsUndefined())
    device = parse_device(to_text(info[2], "device"));
  else if (!at::hasCUDA())
    device = at::kCPU;  // what was saved from a GPU loads all the same
  optional<at::ScalarType> dtype;
  if (!info[3].IsUndefined()) dtype = parse_dtype(to_text(info[3], "dtype"));
  if (dtype && !at::isFloatingType(*dtype))
    fail("ERR_DTYPE", "dtype: expected a floating point dtype, got ", dtype_name(*dtype));

  auto work = [reader, name, device, dtype] {
    try {
      auto module = torch::jit::load(reader, device ALAMBIC_WITHOUT_DEBUG_FILES);
      if (dtype) convert_floats(module, *dtype);
      return module;
    } catch (...) {
      auto error = describe_exception(std::current_exception());
      if (std::string_view(error.code()) == "ERR_OUT_OF_MEMORY") throw error;
      throw CodedError("ERR_FILE_FORMAT",
                       c10::str(name, ": libtorch can't read it as TorchScript: ", reason_of(error)));
    }
  };
  return Job<Module>::start(info.Env(), work, [kept](Napi::Env env, Module& module) {
    kept->Reset();
    return from_module(env, std::move(module));
  });
}

// With tensors of its own: the thread that reads them must not see what others write meanwhile.
Module copy_of(const Module& module) {
  at::AutoGradMode recorded(true);  // or the copies of parameters would not require gradients
  return module.deepcopy();
}

// A copy of the module that shares its tensors and whose forward has taps.
Module tapped_copy(const Module& module, const std::vector<Tap>& taps) {
  auto copy = module.clone(/*inplace=*/true);
  auto& forward = torch::jit::toGraphFunction(copy.get_method("forward").function());
  forward.ensure_defined();
  insert_taps(*forward.graph(), copy, "forward", taps);
  return copy;
}

// freezeScript(module, taps, preserved methods, optimizeNumerics, forInference) -> promise of a module
Napi::Value freeze(const Napi::CallbackInfo& info) {
  auto module = copy_of(to_module(info[0]));
  auto taps = to_taps(info[1]);
  std::vector<std::string> preserved;
  auto names = info[2].As<Napi::Array>();
  for (uint32_t i = 0; i < names.Length(); i++) preserved.push_back(to_text(names.Get(i), "preserve"));
  bool optimize_numerics = to_bool(info[3], "optimizeNumerics"),
       for_inference = to_bool(info[4], "forInference");
  auto work = [=] {
    auto frozen = torch::jit::freeze(tapped_copy(module, taps), preserved, optimize_numerics);
    if (for_inference) frozen = torch::jit::optimize_for_inference(frozen, preserved);
    return frozen;
  };
  return Job<Module>::start(
      info.Env(), work, [](Napi::Env env, Module& frozen) { return from_module(env, std::move(frozen)); });
}

// saveScript(module, path) -> promise
Napi::Value save(const Napi::CallbackInfo& info) {
  auto module = copy_of(to_module(info[0]));
  auto path = to_text(info[1], "path");
  auto work = [module, path] {
    module.save(path);
    return true;
  };
  return Job<bool>::start(info.Env(), work, [](Napi::Env env, bool&) { return env.Undefined(); });
}

}  // namespace

void export_loading(Napi::Env env, Napi::Object exports) {
  exports.Set("loadScript", Napi::Function::New<guarded<load>>(env));
  exports.Set("freezeScript", Napi::Function::New<guarded<freeze>>(env));
  exports.Set("saveScript", Napi::Function::New<guarded<save>>(env));
}

}  // namespace alambic::script
