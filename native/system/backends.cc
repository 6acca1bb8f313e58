#include "system/backends.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/util/Logging.h>

#include <mutex>
#include <string>

#include "compat.h"
#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace {

bool nnpack_runs = false;

// Where NNPACK does not run, libtorch says so at every convolution of a single picture. It is asked once,
// silently, and then left alone.
void ask_nnpack_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    compat::QuietLog quiet;
    nnpack_runs = at::_nnpack_available();
    if (!nnpack_runs) compat::enable_nnpack(at::globalContext(), false, 0);
  });
}

struct Flag {
  const char* name;
  bool (*get)(at::Context&);
  void (*set)(at::Context&, bool);
};

// Under the names of `lib/system/backends.ts`.
const Flag flags[] = {
    {"nnpack.enabled", [](at::Context& context) { return compat::nnpack_enabled(context, 0); },
     [](at::Context& context, bool on) {
       if (on && !nnpack_runs)
         fail("ERR_NOT_IMPLEMENTED", "backends.nnpack.enabled: NNPACK does not run on this processor");
       if (!compat::enable_nnpack(context, on, 0) && on != nnpack_runs)
         fail("ERR_NOT_IMPLEMENTED",
              "backends.nnpack.enabled: libtorch " ALAMBIC_TORCH_VERSION " cannot switch NNPACK off");
     }},
    {"mkldnn.enabled", [](at::Context& context) { return context.userEnabledMkldnn(); },
     [](at::Context& context, bool on) { context.setUserEnabledMkldnn(on); }},
    {"cudnn.enabled", [](at::Context& context) { return context.userEnabledCuDNN(); },
     [](at::Context& context, bool on) { context.setUserEnabledCuDNN(on); }},
    {"cudnn.benchmark", [](at::Context& context) { return context.benchmarkCuDNN(); },
     [](at::Context& context, bool on) { context.setBenchmarkCuDNN(on); }},
    {"cudnn.deterministic", [](at::Context& context) { return context.deterministicCuDNN(); },
     [](at::Context& context, bool on) { context.setDeterministicCuDNN(on); }},
    {"cudnn.allowTf32", [](at::Context& context) { return context.allowTF32CuDNN(); },
     [](at::Context& context, bool on) { context.setAllowTF32CuDNN(on); }},
    {"cuda.matmul.allowTf32", [](at::Context& context) { return context.allowTF32CuBLAS(); },
     [](at::Context& context, bool on) { context.setAllowTF32CuBLAS(on); }},
    {"cuda.matmul.allowFp16ReducedPrecisionReduction",
     [](at::Context& context) { return compat::allows_fp16_reduction(context); },
     [](at::Context& context, bool on) { context.setAllowFP16ReductionCuBLAS(on); }},
    {"cuda.flashSdp", [](at::Context& context) { return context.userEnabledFlashSDP(); },
     [](at::Context& context, bool on) { context.setSDPUseFlash(on); }},
    {"cuda.mathSdp", [](at::Context& context) { return context.userEnabledMathSDP(); },
     [](at::Context& context, bool on) { context.setSDPUseMath(on); }},
};

const Flag& find_flag(const Napi::Value& value) {
  auto name = to_text(value, "flag");
  for (const auto& flag : flags)
    if (name == flag.name) return flag;
  fail("ERR_ARGUMENT", "backends: there is no flag \"", name, "\"");
}

// backendFlag(name) -> boolean
Napi::Value backend_flag(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), find_flag(info[0]).get(at::globalContext()));
}

// setBackendFlag(name, on)
Napi::Value set_backend_flag(const Napi::CallbackInfo& info) {
  const auto& flag = find_flag(info[0]);
  flag.set(at::globalContext(), to_bool(info[1], flag.name));
  return info.Env().Undefined();
}

// backendsAvailable() -> { nnpack, mkldnn, mkl, openmp, cuda, cudnn }
Napi::Value backends_available(const Napi::CallbackInfo& info) {
  auto object = Napi::Object::New(info.Env());
  object.Set("nnpack", nnpack_runs);
  object.Set("mkldnn", at::hasMKLDNN());
  object.Set("mkl", at::hasMKL());
  object.Set("openmp", at::hasOpenMP());
  object.Set("cuda", at::hasCUDA());
  object.Set("cudnn", at::hasCUDA() && at::Context::hasCuDNN());
  return object;
}

constexpr std::pair<const char*, at::Float32MatmulPrecision> precisions[] = {
    {"highest", at::Float32MatmulPrecision::HIGHEST},
    {"high", at::Float32MatmulPrecision::HIGH},
    {"medium", at::Float32MatmulPrecision::MEDIUM},
};

Napi::Value float32_matmul_precision(const Napi::CallbackInfo& info) {
  auto current = at::globalContext().float32MatmulPrecision();
  for (const auto& [name, precision] : precisions)
    if (precision == current) return Napi::String::New(info.Env(), name);
  fail("ERR_NATIVE", "float32MatmulPrecision: a precision without a name");
}

Napi::Value set_float32_matmul_precision(const Napi::CallbackInfo& info) {
  auto wanted = to_text(info[0], "precision");
  for (const auto& [name, precision] : precisions)
    if (wanted == name) {
      at::globalContext().setFloat32MatmulPrecision(wanted);
      return info.Env().Undefined();
    }
  fail("ERR_ARGUMENT", "setFloat32MatmulPrecision: expected \"highest\", \"high\" or \"medium\", got \"",
       wanted, "\"");
}

}  // namespace

void export_backends(Napi::Env env, Napi::Object exports) {
  // TORCH_CPP_LOG_LEVEL is read by this, which Python's bindings call for themselves.
  static std::once_flag once;
  std::call_once(once, c10::initLogging);
  ask_nnpack_once();
  exports.Set("backendFlag", Napi::Function::New<guarded<backend_flag>>(env));
  exports.Set("setBackendFlag", Napi::Function::New<guarded<set_backend_flag>>(env));
  exports.Set("backendsAvailable", Napi::Function::New<guarded<backends_available>>(env));
  exports.Set("float32MatmulPrecision", Napi::Function::New<guarded<float32_matmul_precision>>(env));
  exports.Set("setFloat32MatmulPrecision", Napi::Function::New<guarded<set_float32_matmul_precision>>(env));
}

}  // namespace alambic
