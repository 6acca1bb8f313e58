#include "script/script_module.h"

#include "errors.h"

namespace alambic::script {

namespace {

constexpr napi_type_tag module_tag = {0x616c616d62696373, 0x6372697074000001};

}  // namespace

Napi::Value from_module(Napi::Env env, torch::jit::Module module) {
  auto external = Napi::External<torch::jit::Module>::New(
      env, new torch::jit::Module(std::move(module)),
      [](Napi::Env, torch::jit::Module* finished) { delete finished; });
  napi_type_tag_object(env, external, &module_tag);
  return external;
}

const torch::jit::Module& to_module(const Napi::Value& value) {
  bool is_module = false;
  if (!value.IsExternal() ||
      napi_check_object_type_tag(value.Env(), value, &module_tag, &is_module) != napi_ok || !is_module)
    fail("ERR_ARGUMENT", "module: expected a TorchScript module");
  return *value.As<Napi::External<torch::jit::Module>>().Data();
}

std::string class_name(const torch::jit::Module& module) {
  return module.type()->name() ? module.type()->name()->name() : "ScriptModule";
}

}  // namespace alambic::script

namespace alambic {

void export_script(Napi::Env env, Napi::Object exports) {
  script::export_inspection(env, exports);
  script::export_loading(env, exports);
  script::export_running(env, exports);
}

}  // namespace alambic
