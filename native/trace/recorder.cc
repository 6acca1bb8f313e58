#include "trace/recorder.h"

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

#include <utility>

#include "autograd/autocast.h"
#include "errors.h"

namespace alambic::trace {

namespace {

namespace jit = torch::jit;
namespace tracer = torch::jit::tracer;

thread_local Recorder* current = nullptr;
thread_local Closures* current_closures = nullptr;

const auto written_attribute = c10::Symbol::attr("written");

void run_closure(jit::Stack& stack) {
  auto inputs = jit::pop(stack).toTensorVector();
  auto number = static_cast<size_t>(jit::pop(stack).toInt());
  if (current_closures == nullptr || number >= current_closures->list.size())
    fail("ERR_NATIVE", "a recorded step is run outside of its recording");
  try {
    jit::push(stack, current_closures->list[number](inputs));
  } catch (...) {
    current_closures->error = std::current_exception();
    throw;
  }
}

// CONSERVATIVE: a step may have effects that no pass can see; none is removed or moved.
const jit::RegisterOperators closure_operator(
    {jit::Operator("alambic::closure(int number, Tensor[] inputs) -> Tensor[]", run_closure,
                   c10::AliasAnalysisKind::CONSERVATIVE)});

// What tells writes in place; inference tensors have none.
std::vector<int64_t> versions_of(const Tensors& tensors) {
  std::vector<int64_t> versions;
  for (const auto& tensor : tensors)
    versions.push_back(tensor.defined() && !tensor.is_inference() ? tensor._version() : 0);
  return versions;
}

void add_closure_node(const Tensors& inputs, const std::vector<int64_t>& written, const Tensors& outputs,
                      const Closure& body) {
  auto& graph = *tracer::getTracingState()->graph;
  std::vector<jit::Value*> values;
  for (const auto& input : inputs) values.push_back(tracer::getValueTrace(input));
  auto* number = graph.insertConstant(static_cast<int64_t>(current->closures.size()));
  auto* list = graph.insertNode(graph.createList(c10::TensorType::get(), values))->output();
  auto* node = graph.insertNode(graph.create(closure_symbol(), {number, list}, 1));
  node->is_(written_attribute, written);
  node->output()->setType(c10::ListType::ofTensors());
  auto* unpack = graph.insertNode(graph.createListUnpack(node->output(), outputs.size()));
  for (size_t i = 0; i < outputs.size(); i++) tracer::setValueTrace(outputs[i], unpack->outputs()[i]);
  // Around operators the tracer has recorded the conversions themselves.
  current->closures.push_back([body, mode = AutocastMode::current()](const Tensors& tensors) {
    WithAutocast autocast(mode);
    return body(tensors);
  });
}

}  // namespace

Paused::Paused() : recorder_(std::exchange(current, nullptr)) {
  if (recorder_ != nullptr) resume_ = tracer::pauseTracing();
}

Paused::~Paused() {
  if (resume_) resume_();
  current = recorder_;
}

Listening::Listening(Recorder& recorder) {
  if (current != nullptr || tracer::isTracing())
    fail("ERR_NOT_IMPLEMENTED", "a module is being recorded already: recordings do not nest");
  current = &recorder;
}

Listening::~Listening() { current = nullptr; }

bool is_recording() { return current != nullptr; }

bool needs_operators() { return current != nullptr && current->purpose == Purpose::File; }

void note_read(Read read, const char* what, const at::Tensor& tensor) {
  if (current == nullptr || !current->on_read) return;
  auto state = tracer::getTracingState();
  if (state && state->hasValue(tensor)) current->on_read(read, what, tensor);
}

Tensors record_closure(const char* what, Tensors inputs, const Closure& body, bool has_operators) {
  if (current == nullptr) return body(inputs);
  if (current->purpose == Purpose::File) {
    if (!has_operators) fail("ERR_NOT_IMPLEMENTED", what, ": TorchScript has no operator for it");
    for (const auto& input : inputs) note_read(Read::Shape, what, input);
    return body(inputs);
  }
  auto before = versions_of(inputs);
  Tensors outputs;
  {
    Paused paused;
    outputs = body(inputs);
  }
  auto after = versions_of(inputs);
  std::vector<int64_t> written;
  for (size_t i = 0; i < inputs.size(); i++)
    if (after[i] != before[i]) written.push_back(static_cast<int64_t>(i));
  add_closure_node(inputs, written, outputs, body);
  return outputs;
}

c10::Symbol closure_symbol() {
  static const auto symbol = c10::Symbol::fromQualString("alambic::closure");
  return symbol;
}

const std::vector<int64_t>& written_by_closure(const jit::Node& node) { return node.is(written_attribute); }

void record_grad_mode(bool enabled) {
  if (current == nullptr || current->purpose != Purpose::Replay) return;
  auto& graph = *tracer::getTracingState()->graph;
  auto* value = graph.insertConstant(enabled);
  graph.insertNode(graph.create(c10::Symbol::fromQualString("aten::set_grad_enabled"), {value}, 0));
}

void refuse_while_recording(const char* what) {
  if (current != nullptr)
    fail("ERR_NOT_IMPLEMENTED", what,
         ": cannot be recorded; a forward that calls it cannot be exported or compiled");
}

Closures::Closures(const std::vector<Closure>& closures) : outer_(current_closures), list(closures) {
  current_closures = this;
}

Closures::~Closures() { current_closures = outer_; }

}  // namespace alambic::trace
