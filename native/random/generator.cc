#include "random/generator.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <mutex>

#include "environment.h"
#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace {

// Seeds are 64 bits without a sign; negative ones stand for their two's complement, as in PyTorch.
uint64_t to_seed(const Napi::Value& value) {
  if (value.IsBigInt()) {
    bool lossless = false;
    auto seed = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless) return seed;
  }
  return static_cast<uint64_t>(to_integer(value, "seed"));
}

// new Generator(seed, device)
class GeneratorObject : public Napi::ObjectWrap<GeneratorObject> {
 public:
  explicit GeneratorObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<GeneratorObject>(info) {
    guard(info.Env(), [&] {
      auto device = parse_device(to_text(info[1], "device"));
      auto like = at::globalContext().defaultGenerator(device);
      {
        std::lock_guard<std::mutex> lock(like.mutex());  // another thread may draw from it
        generator = like.clone();
      }
      std::lock_guard<std::mutex> lock(generator.mutex());
      generator.set_current_seed(to_seed(info[0]));
    });
  }
  at::Generator generator;
};

// Seeds the thread's default generators of all devices.
Napi::Value manual_seed(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).random->seed(to_seed(info[0]));
  return info.Env().Undefined();
}

at::Generator default_generator(const Napi::Value& device) {
  return Environment::of(device.Env()).random->generator(parse_device(to_text(device, "device")));
}

Napi::Value rng_state(const Napi::CallbackInfo& info) {
  auto generator = default_generator(info[0]);
  std::lock_guard<std::mutex> lock(generator.mutex());
  return from_tensor(info.Env(), generator.get_state());
}

Napi::Value set_rng_state(const Napi::CallbackInfo& info) {
  auto generator = default_generator(info[0]);
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(to_tensor(info[1]));
  return info.Env().Undefined();
}

}  // namespace

at::Generator unwrap_generator(napi_env env, napi_value object) {
  return GeneratorObject::Unwrap(Napi::Object(env, object))->generator;
}

void export_generator(Napi::Env env, Napi::Object exports) {
  exports.Set("Generator", GeneratorObject::DefineClass(env, "Generator", {}));
  exports.Set("manualSeed", Napi::Function::New<guarded<manual_seed>>(env, "manualSeed"));
  exports.Set("rngState", Napi::Function::New<guarded<rng_state>>(env, "rngState"));
  exports.Set("setRngState", Napi::Function::New<guarded<set_rng_state>>(env, "setRngState"));
}

}  // namespace alambic
