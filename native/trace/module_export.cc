#include "trace/module_export.h"

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/script.h>

#include "environment.h"
#include "errors.h"
#include "tensors/values.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

namespace jit = torch::jit;
using trace::Purpose;
using trace::Read;

// What libtorch's tracer calls the module that is traced; paths of submodules begin with it.
constexpr auto root_scope = "__module";

// ---- Structures of tensors: a handle, an array (a tuple in TorchScript) or an object (a dict)
// ------------------------------------------------------------------------------------------------------------

at::IValue to_structure(const Napi::Value& value) {
  if (value.IsNumber()) return to_tensor(value);
  if (value.IsArray()) {
    auto array = value.As<Napi::Array>();
    std::vector<at::IValue> elements;
    for (uint32_t i = 0; i < array.Length(); i++) elements.push_back(to_structure(array.Get(i)));
    return c10::ivalue::Tuple::create(std::move(elements));
  }
  auto object = value.As<Napi::Object>();
  auto names = object.GetPropertyNames();
  c10::Dict<std::string, at::Tensor> dict;
  for (uint32_t i = 0; i < names.Length(); i++)
    dict.insert(names.Get(i).ToString().Utf8Value(), to_tensor(object.Get(names.Get(i))));
  return dict;
}

Napi::Value from_structure(Napi::Env env, const at::IValue& value) {
  if (value.isTensor()) return from_tensor(env, value.toTensor());
  if (value.isTuple() || value.isList()) {
    auto elements = value.isTuple() ? value.toTupleRef().elements().vec() : value.toListRef().vec();
    auto array = Napi::Array::New(env, elements.size());
    for (uint32_t i = 0; i < elements.size(); i++) array.Set(i, from_structure(env, elements[i]));
    return array;
  }
  if (!value.isGenericDict())
    fail("ERR_NATIVE", "expected tensors, tuples and dicts from the exported module, got ", value.tagKind());
  auto object = Napi::Object::New(env);
  for (const auto& entry : value.toGenericDict())
    object.Set(entry.key().toStringRef(), from_structure(env, entry.value()));
  return object;
}

// ---- The tree of modules
// ------------------------------------------------------------------------------------------------------------

// TorchScript's names are Python's.
std::string to_identifier(std::string name) {
  for (auto& letter : name)
    if (!std::isalnum(static_cast<unsigned char>(letter))) letter = '_';
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0]))) name = "_" + name;
  return name;
}

template <typename Visit>
void each(const Napi::Value& list, Visit visit) {
  auto array = list.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) visit(array.Get(i).template As<Napi::Object>());
}

void fill_module(jit::Module& module, const Napi::Object& description,
                 const std::vector<jit::Module>& modules) {
  auto name_of = [](const Napi::Object& part) { return part.Get("name").ToString().Utf8Value(); };
  module.register_attribute("training", c10::BoolType::get(),
                            to_bool(description.Get("training"), "training"));
  each(description.Get("parameters"), [&](const Napi::Object& parameter) {
    module.register_parameter(name_of(parameter), to_tensor(parameter.Get("tensor")), /*is_buffer=*/false);
  });
  each(description.Get("buffers"), [&](const Napi::Object& buffer) {
    auto tensor = to_tensor(buffer.Get("tensor"));
    if (to_bool(buffer.Get("persistent"), "persistent"))
      module.register_buffer(name_of(buffer), tensor);
    else  // an attribute travels with the file and is no part of its state dict
      module.register_attribute(name_of(buffer), c10::TensorType::get(), tensor);
  });
  each(description.Get("children"), [&](const Napi::Object& child) {
    module.register_module(name_of(child), modules.at(to_integer(child.Get("module"), "module")));
  });
}

// The first is the root. Tensors and modules that appear under several names are shared.
jit::Module build_module(const Napi::Value& descriptions) {
  auto unit = std::make_shared<jit::CompilationUnit>();
  std::vector<jit::Module> modules;
  each(descriptions, [&](const Napi::Object& description) {
    c10::QualifiedName name("__torch__.alambic",
                            to_identifier(description.Get("className").ToString().Utf8Value()));
    modules.emplace_back(name, unit, /*shouldMangle=*/true);
  });
  size_t next = 0;
  each(descriptions,
       [&](const Napi::Object& description) { fill_module(modules[next++], description, modules); });
  return modules.at(0);
}

// ---- Tracing
// ------------------------------------------------------------------------------------------------------------

const char* name_of(Read read) { return read == Read::Value ? "value" : "shape"; }

jit::Stack to_stack(const std::vector<at::Tensor>& tensors) { return {tensors.begin(), tensors.end()}; }

// Why libtorch's tracer refused, in terms of the module.
CodedError describe_trace_error(std::exception_ptr exception) {
  auto error = describe_exception(exception);
  std::string message = error.what();
  if (message.find("observable data dependence") != std::string::npos)
    return CodedError("ERR_NOT_IMPLEMENTED",
                      "an output does not depend on any tensor of the module or its inputs");
  return error;
}

// new TracedModule(descriptions, inputs, forward, onRead)
class TracedModule : public Napi::ObjectWrap<TracedModule> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "TracedModule",
                       {InstanceMethod("freeze", &TracedModule::call<&TracedModule::freeze>),
                        InstanceMethod("save", &TracedModule::call<&TracedModule::save>)});
  }

  explicit TracedModule(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<TracedModule>(info), module_("Module") {
    guard(info.Env(), [&] { trace(info); });
  }

 private:
  template <Napi::Value (TracedModule::*method)(const Napi::CallbackInfo&)>
  Napi::Value call(const Napi::CallbackInfo& info) {
    return guard(info.Env(), [&] { return (this->*method)(info); });
  }

  void trace(const Napi::CallbackInfo& info) {
    module_ = build_module(info[0]);
    auto inputs = to_stack(to_tensors(info[1], "inputs"));
    auto forward = info[2].As<Napi::Function>();
    auto on_read = info[3].As<Napi::Function>();
    trace::Recorder recorder{
        Purpose::File,
        [&](Read read, const char* what, const at::Tensor& tensor) {
          on_read.Call({Napi::String::New(info.Env(), name_of(read)), Napi::String::New(info.Env(), what),
                        Napi::String::New(info.Env(), describe(tensor))});
        },
        {}};
    trace::Listening listening(recorder);
    // Not strict: dicts may be returned, their keys are fixed.
    try {
      auto traced = jit::tracer::trace(
          std::move(inputs), [&](jit::Stack) { return jit::Stack{to_structure(forward.Call({}))}; },
          [](const at::Tensor&) { return std::string(); }, /*strict=*/false, /*force_outplace=*/false,
          &module_);
      auto unit = module_._ivalue()->compilation_unit();
      auto name = c10::QualifiedName(*module_.type()->name(), "forward");
      module_.type()->addMethod(unit->create_function(name, traced.first->graph));
    } catch (const Napi::Error&) {
      throw;
    } catch (const CodedError&) {
      throw;
    } catch (...) {
      throw describe_trace_error(std::current_exception());
    }
  }

  // freeze(): parameters become constants, and batch norms a part of the convolutions before them.
  Napi::Value freeze(const Napi::CallbackInfo& info) {
    module_ = jit::freeze(module_);
    return info.Env().Undefined();
  }

  // save(path)
  Napi::Value save(const Napi::CallbackInfo& info) {
    module_.save(to_text(info[0], "path"));
    return info.Env().Undefined();
  }

  jit::Module module_;
};

// enterScope(path), leaveScope(): the operators between them belong to the submodule at the path.
Napi::Value enter_scope(const Napi::CallbackInfo& info) {
  auto path = c10::str(root_scope, ".", to_text(info[0], "path"));
  if (auto state = jit::tracer::getTracingState()) state->graph->push_scope(path);
  return info.Env().Undefined();
}

Napi::Value leave_scope(const Napi::CallbackInfo& info) {
  if (auto state = jit::tracer::getTracingState()) state->graph->pop_scope();
  return info.Env().Undefined();
}

// runSavedModule(path, inputs) -> the outputs, in the structure of the module's
Napi::Value run_saved_module(const Napi::CallbackInfo& info) {
  at::NoGradGuard no_grad;
  auto module = jit::load(to_text(info[0], "path"));
  return from_structure(info.Env(), module.forward(to_stack(to_tensors(info[1], "inputs"))));
}

}  // namespace

void export_module_export(Napi::Env env, Napi::Object exports) {
  exports.Set("TracedModule", TracedModule::define(env));
  exports.Set("enterScope", Napi::Function::New<guarded<enter_scope>>(env));
  exports.Set("leaveScope", Napi::Function::New<guarded<leave_scope>>(env));
  exports.Set("runSavedModule", Napi::Function::New<guarded<run_saved_module>>(env));
}

}  // namespace alambic
