#include "autograd/autograd.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <unordered_set>

#include "autograd/tensor_hooks.h"
#include "environment.h"
#include "errors.h"
#include "tensors/values.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

using torch::autograd::Edge;
using torch::autograd::Node;
using torch::autograd::variable_list;

// Gradients given by the caller; 0 stands for the implicit gradient 1 of a scalar.
variable_list output_gradients(const Napi::Value& value, const variable_list& outputs) {
  variable_list gradients(outputs.size());
  if (value.IsUndefined()) return gradients;
  auto array = value.As<Napi::Array>();
  if (array.Length() != outputs.size())
    fail("ERR_LENGTH_MISMATCH", "grad: expected ", outputs.size(), " output gradients, got ", array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) gradients[i] = to_optional_tensor(array.Get(i));
  return gradients;
}

void check_outputs(const char* what, const variable_list& outputs, const variable_list& gradients) {
  for (size_t i = 0; i < outputs.size(); i++) {
    if (!outputs[i].requires_grad())
      fail("ERR_AUTOGRAD", what, ": the tensor does not depend on one with requiresGrad (",
           describe(outputs[i]), "); was it computed under noGrad()?");
    if (!gradients[i].defined() && outputs[i].numel() != 1)
      fail("ERR_AUTOGRAD", what, ": a gradient is needed for a tensor that is not a scalar (",
           describe(outputs[i]), "); reduce it with sum() or mean(), or give { gradient }");
    if (gradients[i].defined() && gradients[i].sizes() != outputs[i].sizes())
      fail("ERR_SHAPE_MISMATCH", what, ": gradient: expected the output's shape ", describe(outputs[i]),
           ", got ", describe(gradients[i]));
  }
}

// Errors of the engine concern the graph: a second backward, a variable changed in place …
template <typename Run>
auto with_autograd_code(const char* what, Run run) {
  try {
    return run();
  } catch (const CodedError&) {
    throw;
  } catch (...) {
    auto error = describe_exception(std::current_exception());
    bool is_graph_error = std::string_view(error.code()) == "ERR_OPERATOR";
    throw CodedError(is_graph_error ? "ERR_AUTOGRAD" : error.code(), c10::str(what, ": ", error.what()));
  }
}

// Calls `visit` for each edge that leads from the outputs towards the leaves, once.
template <typename Visit>
void for_each_edge(const variable_list& outputs, Visit visit) {
  struct Hash {
    size_t operator()(const Edge& edge) const {
      return std::hash<const void*>()(edge.function.get()) ^ (size_t{edge.input_nr} * 0x9e3779b9u);
    }
  };
  std::unordered_set<Edge, Hash> visited;
  std::unordered_set<const Node*> expanded;
  std::vector<Edge> pending;
  for (const auto& output : outputs) pending.push_back(torch::autograd::impl::gradient_edge(output));
  while (!pending.empty()) {
    auto edge = std::move(pending.back());
    pending.pop_back();
    if (!edge.is_valid() || !visited.insert(edge).second) continue;
    visit(edge);
    if (!expanded.insert(edge.function.get()).second) continue;
    for (const auto& next : edge.function->next_edges()) pending.push_back(next);
  }
}

// Zeros without memory cannot be added to, clipped or read: a gradient that is kept has memory.
void give_memory_to_gradient(const at::Tensor& tensor) {
  const auto& gradient = tensor.grad();
  if (gradient.defined() && gradient._is_zerotensor()) tensor.mutable_grad() = with_memory(gradient);
}

void give_memory_to_gradients(const variable_list& outputs) {
  for_each_edge(outputs, [](const Edge& edge) {
    if (edge.function->num_outputs() > 0) return;
    if (auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(edge.function.get()))
      if (leaf->variable.defined()) give_memory_to_gradient(leaf->variable);
  });
}

// An undefined gradient stands for zeros where the outputs depend on the input.
void give_zeros_for_undefined(const variable_list& outputs, const variable_list& inputs,
                              variable_list& results) {
  if (std::all_of(results.begin(), results.end(), [](const auto& each) { return each.defined(); })) return;
  for_each_edge(outputs, [&](const Edge& edge) {
    for (size_t i = 0; i < inputs.size(); i++)
      if (!results[i].defined() && torch::autograd::impl::gradient_edge(inputs[i]) == edge)
        results[i] = at::zeros_like(inputs[i]);
  });
}

void run_backward(const variable_list& outputs, const variable_list& gradients, bool retain_graph,
                  bool create_graph) {
  trace::refuse_while_recording("backward");
  check_outputs("backward", outputs, gradients);
  HooksMayRun hooks_may_run;
  with_autograd_code("backward", [&] {
    torch::autograd::backward(outputs, gradients, retain_graph, create_graph);
    give_memory_to_gradients(outputs);
    return 0;
  });
}

// backward(outputs, gradients | undefined, retainGraph, createGraph)
Napi::Value backward_binding(const Napi::CallbackInfo& info) {
  auto outputs = to_tensors(info[0], "outputs");
  auto gradients = output_gradients(info[1], outputs);
  run_backward(outputs, gradients, to_bool(info[2], "retainGraph"), to_bool(info[3], "createGraph"));
  return info.Env().Undefined();
}

// grad(outputs, inputs, gradients | undefined, retainGraph, createGraph, allowUnused) -> handles, 0 for
// unused inputs
Napi::Value grad(const Napi::CallbackInfo& info) {
  trace::refuse_while_recording("grad");
  auto outputs = to_tensors(info[0], "outputs"), inputs = to_tensors(info[1], "inputs");
  auto gradients = output_gradients(info[2], outputs);
  check_outputs("grad", outputs, gradients);
  for (const auto& input : inputs)
    if (!input.requires_grad())
      fail("ERR_AUTOGRAD", "grad: an input does not require a gradient (", describe(input), ")");
  bool retain_graph = to_bool(info[3], "retainGraph"), create_graph = to_bool(info[4], "createGraph");
  bool allow_unused = to_bool(info[5], "allowUnused");
  HooksMayRun hooks_may_run;
  auto results = with_autograd_code("grad", [&] {
    auto results = torch::autograd::grad(outputs, inputs, gradients, retain_graph, create_graph,
                                         /*allow_unused=*/true);
    give_zeros_for_undefined(outputs, inputs, results);
    return results;
  });
  for (size_t i = 0; i < results.size(); i++)
    if (!results[i].defined() && !allow_unused)
      fail("ERR_AUTOGRAD", "grad: the outputs do not depend on the input at index ", i, " (",
           describe(inputs[i]), "); allowUnused: true gives null for it");
  return from_tensors(info.Env(), results);
}

Napi::Value gradient(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  give_memory_to_gradient(tensor);
  return from_optional_tensor(info.Env(), tensor.grad());
}

// As PyTorch, which takes sparse gradients of dense tensors.
void check_gradient_of(const at::Tensor& tensor, const at::Tensor& value) {
  if (value.is_same(tensor)) fail("ERR_ARGUMENT", "grad: a tensor cannot be its own gradient; use a clone()");
  if (value.sizes() != tensor.sizes())
    fail("ERR_SHAPE_MISMATCH", "grad: expected the tensor's shape ", describe(tensor), ", got ",
         describe(value));
  if (value.scalar_type() != tensor.scalar_type())
    fail("ERR_DTYPE", "grad: expected the tensor's dtype ", describe(tensor), ", got ", describe(value));
  if (value.device() != tensor.device())
    fail("ERR_DEVICE", "grad: expected the tensor's device ", tensor.device().str(), ", got ",
         value.device().str());
  if (value.layout() != tensor.layout() && value.layout() != at::kSparse)
    fail("ERR_ARGUMENT", "grad: expected the layout ", layout_name(tensor.layout()), " or sparse, got ",
         layout_name(value.layout()));
}

// setGradient(handle, handle | null)
Napi::Value set_gradient(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  at::Tensor value;
  if (!info[1].IsNull()) {
    value = to_tensor(info[1]);
    check_gradient_of(tensor, value);
  }
  tensor.mutable_grad() = value;
  return info.Env().Undefined();
}

Napi::Value requires_grad(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_tensor(info[0]).requires_grad());
}

Napi::Value set_requires_grad(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  bool value = to_bool(info[1], "requiresGrad");
  if (value && !at::isFloatingType(tensor.scalar_type()) && !at::isComplexType(tensor.scalar_type()))
    fail("ERR_DTYPE", "requiresGrad: expected a floating point or complex tensor, got ", describe(tensor));
  if (!value && !tensor.is_leaf())
    fail("ERR_AUTOGRAD",
         "requiresGrad: only leaf tensors can be told not to require a gradient; use detach()");
  tensor.set_requires_grad(value);
  return info.Env().Undefined();
}

Napi::Value is_leaf(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_tensor(info[0]).is_leaf());
}

// "AddBackward0" is libtorch's own name. Others are names of C++ classes: of those the last, without
// namespaces; "torch::autograd::CppNode<alambic::Fused<alambic::MeanSquares>>" is MeanSquaresBackward.
std::string readable_node_name(const std::string& name) {
  auto end = name.find_last_not_of("> ");
  if (end == std::string::npos) return name;
  auto colon = name.rfind("::", end);
  auto start = colon == std::string::npos ? 0 : colon + 2;
  auto last = name.substr(start, end + 1 - start);
  bool is_template = name.find('<') != std::string::npos;
  return is_template && last.find("Backward") == std::string::npos ? last + "Backward" : last;
}

// The name of the node that made the tensor, as Python shows it, or null. A view that was made without
// recording and then changed has none that can be asked for: "Invalid", as in Python.
Napi::Value grad_fn(const Napi::CallbackInfo& info) {
  try {
    auto node = to_tensor(info[0]).grad_fn();
    if (!node) return info.Env().Null();
    return Napi::String::New(info.Env(), readable_node_name(node->name()));
  } catch (const c10::Error&) {
    return Napi::String::New(info.Env(), "Invalid");
  }
}

// Replaces a tensor's data in place, its identity staying, for those who hold it as well: what Module.to()
// needs. Where libtorch cannot do that, as between meta and others, the handle gets another leaf with that
// data, and who else held the tensor keeps the one that was.
Napi::Value set_data(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  auto data = to_tensor(info[1]);
  // A gradient of another dtype or device than its tensor would be an error later on.
  bool is_other_kind = tensor.device() != data.device() || tensor.scalar_type() != data.scalar_type();
  auto grad = tensor.grad();
  if (grad.defined() && is_other_kind) grad = grad.to(data.options());
  if (at::_has_compatible_shallow_copy_type(tensor, data)) {
    tensor.set_data(data);
  } else {
    bool requires_grad = tensor.requires_grad();
    tensor = data.detach();
    tensor.set_requires_grad(requires_grad);
  }
  if (grad.defined()) tensor.mutable_grad() = grad;
  Environment::of(info.Env()).tensors.replace(to_handle(info[0]), tensor);  // counts its storage anew
  return info.Env().Undefined();
}

// setGradEnabled(enabled) -> what it was; per thread
Napi::Value set_grad_enabled(const Napi::CallbackInfo& info) {
  bool before = at::GradMode::is_enabled();
  bool enabled = to_bool(info[0], "enabled");
  if (enabled != before) trace::record_grad_mode(enabled);
  at::GradMode::set_enabled(enabled);
  return Napi::Boolean::New(info.Env(), before);
}

Napi::Value is_grad_enabled(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), at::GradMode::is_enabled());
}

}  // namespace

at::Tensor with_memory(at::Tensor tensor) {
  return tensor.defined() && tensor._is_zerotensor() ? tensor.clone() : tensor;
}

void backward(const at::Tensor& loss) {
  run_backward({loss}, {at::Tensor()}, /*retain_graph=*/false, /*create_graph=*/false);
}

void export_autograd(Napi::Env env, Napi::Object exports) {
  exports.Set("backward", Napi::Function::New<guarded<backward_binding>>(env));
  exports.Set("grad", Napi::Function::New<guarded<grad>>(env));
  exports.Set("gradient", Napi::Function::New<guarded<gradient>>(env));
  exports.Set("setGradient", Napi::Function::New<guarded<set_gradient>>(env));
  exports.Set("requiresGrad", Napi::Function::New<guarded<requires_grad>>(env));
  exports.Set("setRequiresGrad", Napi::Function::New<guarded<set_requires_grad>>(env));
  exports.Set("isLeaf", Napi::Function::New<guarded<is_leaf>>(env));
  exports.Set("gradFn", Napi::Function::New<guarded<grad_fn>>(env));
  exports.Set("setData", Napi::Function::New<guarded<set_data>>(env));
  exports.Set("setGradEnabled", Napi::Function::New<guarded<set_grad_enabled>>(env));
  exports.Set("isGradEnabled", Napi::Function::New<guarded<is_grad_enabled>>(env));
}

}  // namespace alambic
