#include "trace/side_part.h"

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace alambic::trace {

namespace {

namespace jit = torch::jit;

const auto begin_symbol = c10::Symbol::fromQualString("alambic::side_begin");
const auto end_symbol = c10::Symbol::fromQualString("alambic::side_end");
const auto join_symbol = c10::Symbol::fromQualString("alambic::side_join");

thread_local step::SideStream* current_stream = nullptr;

const jit::RegisterOperators side_operators(
    {jit::Operator(
         "alambic::side_begin() -> ()",
         [](jit::Stack&) {
           if (current_stream != nullptr) current_stream->enter();
         },
         c10::AliasAnalysisKind::CONSERVATIVE),
     jit::Operator(
         "alambic::side_end() -> ()",
         [](jit::Stack&) {
           if (current_stream != nullptr) current_stream->leave();
         },
         c10::AliasAnalysisKind::CONSERVATIVE),
     // Takes what the side part reads, which so lives until the part is done: memory that is freed earlier
     // could be used again by what runs beside it.
     jit::Operator(
         "alambic::side_join(Tensor[] read) -> ()",
         [](jit::Stack& stack) {
           if (current_stream != nullptr) current_stream->join();
           jit::drop(stack, 1);
         },
         c10::AliasAnalysisKind::CONSERVATIVE)});

// Values that may lie in the same memory.
class Aliases {
 public:
  explicit Aliases(jit::Graph& graph) {
    for (auto* node : graph.nodes()) note(node);
  }

  bool may_share(const jit::Value* a, const jit::Value* b) { return root(a) == root(b); }
  const std::vector<const jit::Value*>& written() const { return written_; }

 private:
  void note(const jit::Node* node) {
    if (node->kind() == closure_symbol()) {
      const auto* list = node->input(1)->node();
      for (auto i : written_by_closure(*node)) written_.push_back(list->input(i));
    } else if (const auto* schema = node->maybeSchema(); schema != nullptr && !node->kind().is_prim()) {
      note_arguments(node, *schema);
    } else {
      // Lists and tuples are what is in them.
      for (const auto* input : node->inputs())
        for (const auto* output : node->outputs()) join(input, output);
    }
  }

  void note_arguments(const jit::Node* node, const c10::FunctionSchema& schema) {
    const auto& arguments = schema.arguments();
    bool is_view = std::any_of(schema.returns().begin(), schema.returns().end(),
                               [](const c10::Argument& each) { return each.alias_info() != nullptr; });
    for (size_t i = 0; i < arguments.size() && i < node->inputs().size(); i++) {
      const auto* alias = arguments[i].alias_info();
      if (alias == nullptr) continue;
      if (alias->isWrite()) written_.push_back(node->input(i));
      if (!is_view) continue;
      for (const auto* output : node->outputs()) join(node->input(i), output);
    }
  }

  const jit::Value* root(const jit::Value* value) {
    auto& parent = parents_.try_emplace(value, value).first->second;
    if (parent == value) return value;
    const auto* found = root(parent);
    return parents_[value] = found;
  }

  void join(const jit::Value* a, const jit::Value* b) { parents_[root(a)] = root(b); }

  std::unordered_map<const jit::Value*, const jit::Value*> parents_;
  std::vector<const jit::Value*> written_;
};

bool is_tensor(const jit::Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }
// Several tensors in one value.
bool is_compound(const jit::Value* value) {
  auto kind = value->type()->kind();
  return kind == c10::TypeKind::ListType || kind == c10::TypeKind::TupleType ||
         kind == c10::TypeKind::OptionalType;
}
bool is_constant(const jit::Value* value) { return value->node()->kind() == c10::prim::Constant; }

const void* storage_of(const at::Tensor& tensor) {
  return tensor.defined() && tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

// A side part and what it has to do with the rest.
class Part {
 public:
  Part(jit::Graph& graph, jit::Node* begin, jit::Node* end) : graph_(graph), end_(end) {
    for (auto* node = begin->next(); node != end; node = node->next()) nodes_.insert(node);
    for (auto* node : graph.nodes())
      for (auto* input : node->inputs()) note_use(node, input);
    for (auto* output : graph.outputs()) note_use(graph.return_node(), output);
  }

  std::string obstacle(const Tensors& inputs, size_t shared) {
    if (nodes_.empty()) return "nothing runs in it";
    auto* next = end_->next();
    while (next->kind() == c10::prim::Constant) next = next->next();
    if (next == first_use()) return "what follows needs it at once";
    std::unordered_set<const void*> own, others;
    for (size_t i = 0; i < inputs.size(); i++) {
      if (i == shared) continue;
      const auto* value = graph_.inputs()[i];
      if (read_.count(value) != 0) own.insert(storage_of(inputs[i]));
      if (used_outside_.count(value) != 0) others.insert(storage_of(inputs[i]));
    }
    for (const auto* storage : own)
      if (storage == nullptr || others.count(storage) != 0)
        return "the rest uses its parameters or buffers too";
    for (const auto* value : read_) {
      if (is_compound(value) && !is_constant(value)) return "it reads a list that was made before";
      if (is_tensor(value) && is_constant(value) && used_outside_.count(value) != 0)
        return "the rest uses its constants too";
    }
    // What it alone reads it may also change.
    auto is_own = [&](const jit::Value* value) {
      return value->node()->kind() == c10::prim::Param && value != graph_.inputs()[shared];
    };
    Aliases aliases(graph_);
    for (const auto* written : aliases.written())
      for (const auto* value : read_)
        if (is_tensor(value) && !is_own(value) && aliases.may_share(written, value))
          return "what it reads is changed in place";
    return "";
  }

  void insert_join() {
    std::vector<jit::Value*> kept;
    for (auto* value : in_order_)
      if (is_tensor(value) && !is_constant(value) && value->node()->kind() != c10::prim::Param)
        kept.push_back(value);
    jit::WithInsertPoint before(first_use());
    auto* list = graph_.insertNode(graph_.createList(c10::TensorType::get(), kept))->output();
    graph_.insertNode(graph_.create(join_symbol, {list}, 0));
  }

 private:
  void note_use(const jit::Node* node, jit::Value* value) {
    bool is_made_inside = nodes_.count(value->node()) != 0 && !is_constant(value);
    if (nodes_.count(node) == 0) {
      used_outside_.insert(value);
      if (is_made_inside) users_.insert(node);
    } else if (!is_made_inside && read_.insert(value).second) {
      in_order_.push_back(value);
    }
  }

  jit::Node* first_use() const {
    auto* node = end_->next();
    while (node != graph_.return_node() && users_.count(node) == 0) node = node->next();
    return node;
  }

  jit::Graph& graph_;
  jit::Node* end_;
  std::unordered_set<const jit::Node*> nodes_;
  std::unordered_set<const jit::Value*> read_, used_outside_;  // read: made outside, used inside
  std::vector<jit::Value*> in_order_;                          // those read
  std::unordered_set<const jit::Node*> users_;                 // outside, of what is made inside
};

}  // namespace

void record_side_part(bool begins) {
  if (!is_recording() || needs_operators()) return;
  auto& graph = *jit::tracer::getTracingState()->graph;
  graph.insertNode(graph.create(begins ? begin_symbol : end_symbol, {}, 0));
}

SidePart settle_side_part(jit::Graph& graph, const Tensors& inputs, size_t shared) {
  std::vector<jit::Node*> begins, ends;
  for (auto* node : graph.nodes()) {
    if (node->kind() == begin_symbol) begins.push_back(node);
    if (node->kind() == end_symbol) ends.push_back(node);
  }
  if (begins.empty()) return {};
  SidePart part{true, ""};
  if (begins.size() > 1 || ends.size() != 1) {
    part.obstacle = "it runs more than once";
  } else {
    Part between(graph, begins[0], ends[0]);
    part.obstacle = between.obstacle(inputs, shared);
    if (part.obstacle.empty()) between.insert_join();
  }
  if (!part.obstacle.empty())
    for (auto* list : {&begins, &ends})
      for (auto* node : *list) node->destroy();
  return part;
}

void defer_side_part(jit::Graph& graph) {
  jit::Node *begin = nullptr, *join = nullptr;
  for (auto* node : graph.nodes()) {
    if (node->kind() == begin_symbol) begin = node;
    if (node->kind() == join_symbol) join = node;
  }
  if (begin == nullptr || join == nullptr) return;
  for (bool is_over = false; !is_over;) {
    auto* node = begin;
    begin = node->next();
    is_over = node->kind() == end_symbol;
    node->moveBefore(join);
  }
}

OnSideStream::OnSideStream(step::SideStream* stream) : outer_(std::exchange(current_stream, stream)) {}
OnSideStream::~OnSideStream() { current_stream = outer_; }

}  // namespace alambic::trace
