// What a TorchScript module is made of: its tree, its methods, its source.
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/serialization/python_print.h>

#include <unordered_map>

#include "compat.h"
#include "environment.h"
#include "errors.h"
#include "script/ivalues.h"
#include "script/script_module.h"
#include "script/taps.h"
#include "tensors/values.h"

namespace alambic::script {

namespace {

using torch::jit::Module;

// Flattens a tree of modules; what is shared appears once.
class Tree {
 public:
  explicit Tree(Napi::Env env)
      : env_(env), modules_(Napi::Array::New(env)), tensors_(Napi::Array::New(env)) {}

  uint32_t add(const Module& module) {
    auto [known, is_new] = module_index_.emplace(module._ivalue().get(), modules_.Length());
    if (!is_new) return known->second;
    auto index = known->second;
    auto object = Napi::Object::New(env_);
    modules_.Set(index, object);
    object.Set("module", from_module(env_, module));
    object.Set("typeName", module.type()->name() ? module.type()->name()->qualifiedName() : "");
    auto parameters = Napi::Array::New(env_), buffers = Napi::Array::New(env_);
    auto children = Napi::Array::New(env_);
    const auto& type = module.type();
    for (size_t i = 0; i < type->numAttributes(); i++) {
      const auto& name = type->getAttributeName(i);
      auto value = module.attr(name);
      if (value.isTensor() && value.toTensor().defined()) {
        if (type->is_parameter(i))
          push(parameters, name, add_tensor(value.toTensor()));
        else if (type->is_buffer(i))
          push(buffers, name, add_tensor(value.toTensor()));
      } else if (value.isModule()) {
        push(children, name, add(value.toModule()));
      }
    }
    object.Set("parameters", parameters);
    object.Set("buffers", buffers);
    object.Set("children", children);
    return index;
  }

  Napi::Object result() const {
    auto object = Napi::Object::New(env_);
    object.Set("modules", modules_);
    object.Set("tensors", tensors_);
    return object;
  }

 private:
  uint32_t add_tensor(const at::Tensor& tensor) {
    auto [known, is_new] = tensor_index_.emplace(tensor.unsafeGetTensorImpl(), tensors_.Length());
    if (is_new) tensors_.Set(known->second, from_tensor(env_, tensor));
    return known->second;
  }
  void push(Napi::Array& list, const std::string& name, uint32_t index) const {
    auto pair = Napi::Array::New(env_, 2);
    pair.Set(uint32_t{0}, name);
    pair.Set(uint32_t{1}, index);
    list.Set(list.Length(), pair);
  }

  Napi::Env env_;
  Napi::Array modules_, tensors_;
  std::unordered_map<const void*, uint32_t> module_index_, tensor_index_;
};

// scriptTree(module) -> { modules, tensors }; the module itself comes first.
Napi::Value tree(const Napi::CallbackInfo& info) {
  Tree tree(info.Env());
  tree.add(to_module(info[0]));
  return tree.result();
}

// scriptMethods(module) -> [{ name, arguments: [{ name, type, isOptional, acceptsObject }], returns }]
Napi::Value methods(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  const auto& module = to_module(info[0]);
  auto list = Napi::Array::New(env);
  for (auto* function : module.type()->methods()) {
    const auto& schema = function->getSchema();
    auto arguments = Napi::Array::New(env);
    for (size_t i = 1; i < schema.arguments().size(); i++) {
      const auto& argument = schema.arguments()[i];
      auto object = Napi::Object::New(env);
      object.Set("name", argument.name());
      object.Set("type", type_name(argument.type()));
      object.Set("isOptional", argument.default_value().has_value());
      object.Set("acceptsObject", accepts_object(argument.type()));
      arguments.Set(arguments.Length(), object);
    }
    auto object = Napi::Object::New(env);
    object.Set("name", function->name());
    object.Set("arguments", arguments);
    object.Set("returns", schema.returns().empty() ? "None" : type_name(schema.returns()[0].type()));
    list.Set(list.Length(), object);
  }
  return list;
}

// scriptCode(module, method | undefined) -> the source of a method, or of the whole class
Napi::Value code(const Napi::CallbackInfo& info) {
  const auto& module = to_module(info[0]);
  std::vector<c10::IValue> constants;
  torch::jit::PrintDepsTable dependencies;
  torch::jit::PythonPrint printer(constants, dependencies);
  if (info[1].IsUndefined())
    printer.printNamedType(module.type());
  else {
    auto name = to_text(info[1], "method");
    auto method = module.find_method(name);
    if (!method) fail("ERR_ARGUMENT", class_name(module), " has no method \"", name, "\"");
    printer.printMethod(method->function());
  }
  return Napi::String::New(info.Env(), printer.str());
}

// scriptCalls(module, method) -> [{ path, count, output, outputs, inputs }]
Napi::Value calls(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  auto list = Napi::Array::New(env);
  for (const auto& call : calls_of(to_module(info[0]), to_text(info[1], "method"))) {
    auto object = Napi::Object::New(env);
    object.Set("path", call.path);
    object.Set("count", static_cast<double>(call.count));
    object.Set("output", type_name(call.output));
    auto outputs = Napi::Array::New(env);
    for (const auto& steps : tensors_in(call.output)) outputs.Set(outputs.Length(), steps);
    object.Set("outputs", outputs);
    auto inputs = Napi::Array::New(env);
    for (const auto& type : call.inputs) inputs.Set(inputs.Length(), type_name(type));
    object.Set("inputs", inputs);
    list.Set(list.Length(), object);
  }
  return list;
}

// scriptTraining(module) -> boolean; undefined for one that has no modes
Napi::Value training(const Napi::CallbackInfo& info) {
  const auto& module = to_module(info[0]);
  if (!module.hasattr("training")) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), module.attr("training").toBool());
}

// setScriptTraining(module, training): this module only
Napi::Value set_training(const Napi::CallbackInfo& info) {
  auto module = to_module(info[0]);
  if (module.hasattr("training")) module.setattr("training", to_bool(info[1], "training"));
  return info.Env().Undefined();
}

}  // namespace

void export_inspection(Napi::Env env, Napi::Object exports) {
  exports.Set("scriptTree", Napi::Function::New<guarded<tree>>(env));
  exports.Set("scriptMethods", Napi::Function::New<guarded<methods>>(env));
  exports.Set("scriptCode", Napi::Function::New<guarded<code>>(env));
  exports.Set("scriptCalls", Napi::Function::New<guarded<calls>>(env));
  exports.Set("scriptTraining", Napi::Function::New<guarded<training>>(env));
  exports.Set("setScriptTraining", Napi::Function::New<guarded<set_training>>(env));
}

}  // namespace alambic::script
