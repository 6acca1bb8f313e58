#include "script/taps.h"

#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <unordered_map>

#include "compat.h"
#include "errors.h"
#include "script/ivalues.h"
#include "text.h"

namespace alambic::script {

namespace prim = c10::prim;
namespace attr = c10::attr;
using c10::IValue;
using c10::TypePtr;
using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

// ---- The operator
// ---------------------------------------------------------------------------------------------------

namespace {

thread_local TapListener* listener = nullptr;

// It returns what it is given, so autograd and every later node see the same tensor. Conservative alias
// analysis makes it a side effect that may write anywhere: no pass removes it, reorders it, or fuses over it.
torch::jit::RegisterOperators tap_operator({torch::jit::Operator(
    "alambic::tap(t value, int tap) -> t",
    [](torch::jit::Stack& stack) {
      auto tap = torch::jit::pop(stack).toInt();
      if (listener) stack.back() = listener->show(tap, std::move(stack.back()));
    },
    c10::AliasAnalysisKind::CONSERVATIVE)});

}  // namespace

TapListener::TapListener(OnValue on_value) : on_value_(std::move(on_value)), outer_(listener) {
  listener = this;
}
TapListener::~TapListener() { listener = outer_; }
TapListener* TapListener::current() { return listener; }

// ---- Types
// ----------------------------------------------------------------------------------------------------------

namespace {

bool may_be_tensor(const TypePtr& type) {
  if (type->isSubtypeOf(*c10::TensorType::get()) || type->kind() == c10::TypeKind::AnyType) return true;
  if (type->kind() != c10::TypeKind::OptionalType && type->kind() != c10::TypeKind::UnionType) return false;
  auto types = type->containedTypes();
  return std::any_of(types.begin(), types.end(), may_be_tensor);
}

TypePtr without_optional(const TypePtr& type) {
  return type->kind() == c10::TypeKind::OptionalType ? type->castRaw<c10::OptionalType>()->getElementType()
                                                     : type;
}

bool is_number(const std::string& text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
}

// The type after one step, or null.
TypePtr after_step(const TypePtr& given, const std::string& step) {
  auto type = without_optional(given);
  if (type->kind() == c10::TypeKind::AnyType) return type;
  if (auto list = type->cast<c10::ListType>()) return is_number(step) ? list->getElementType() : nullptr;
  if (auto dict = type->cast<c10::DictType>()) return dict->getValueType();
  auto tuple = type->cast<c10::TupleType>();
  if (!tuple) return nullptr;
  if (is_number(step) && step.size() < 9) {
    size_t index = std::stoul(step);
    return index < tuple->elements().size() ? tuple->elements()[index] : nullptr;
  }
  if (!tuple->schema()) return nullptr;
  auto index = tuple->schema()->argumentIndexWithName(step);
  return index ? tuple->elements()[*index] : nullptr;
}

void collect_tensors(const TypePtr& given, const std::string& prefix, std::vector<std::string>& found) {
  auto type = without_optional(given);
  if (may_be_tensor(type)) {
    found.push_back(prefix);
  } else if (auto list = type->cast<c10::ListType>()) {
    collect_tensors(list->getElementType(), prefix + "[0]", found);
  } else if (auto dict = type->cast<c10::DictType>()) {
    collect_tensors(dict->getValueType(), prefix + "[key]", found);
  } else if (auto tuple = type->cast<c10::TupleType>()) {
    for (size_t i = 0; i < tuple->elements().size(); i++) {
      auto name = tuple->schema() ? tuple->schema()->arguments()[i].name() : std::to_string(i);
      collect_tensors(tuple->elements()[i], prefix + "[" + name + "]", found);
    }
  }
}

std::string joined(const std::vector<std::string>& words, size_t most = 20) {
  std::string text;
  for (size_t i = 0; i < std::min(words.size(), most); i++) text += (i ? ", " : "") + words[i];
  if (words.size() > most) text += c10::str(", … ", words.size(), " in all");
  return text;
}

}  // namespace

std::vector<std::string> tensors_in(const TypePtr& type) {
  std::vector<std::string> found;
  collect_tensors(type, "", found);
  return found;
}

// ---- Walking the graph
// -----------------------------------------------------------------------------------------------

namespace {

std::string join_path(const std::string& parent, const std::string& name) {
  return parent.empty() ? name : parent + "." + name;
}

// `forward`, and its other names: forward1, forward2 … for the further calls in a traced file; forward__0 …
// for the overloads of a scripted one.
bool is_forward(const std::string& method) {
  constexpr std::string_view forward = "forward";
  if (method.compare(0, forward.size(), forward) != 0) return false;
  auto rest = method.substr(forward.size());
  if (rest.compare(0, 2, "__") == 0) rest = rest.substr(2);
  return rest.empty() ? method == forward : is_number(rest);
}

// Walks a method's graph through the calls of submodules, which it takes apart while it knows the dotted path
// of each. `insertGraph` of the callee's own graph leaves nested calls as they are, so that their turn comes;
// libtorch's inliner would dissolve them all and with them their names.
class Walker {
 public:
  Walker(Graph& graph, const Module& root) : graph_(graph), root_(root), self_(graph.inputs().at(0)) {}
  virtual ~Walker() = default;

  void walk() { walk(graph_.block()); }

  // Whether the code reads what belongs to the module at this path.
  bool mentions(const std::string& path) { return mentions(graph_.block(), path); }

  const std::vector<std::string>& forked() const { return forked_; }
  const std::vector<std::string>& dynamic() const { return dynamic_; }

 protected:
  // Whether the calls inside of a call of this path matter.
  virtual bool enters(const std::string& path) = 0;
  // A module's forward is called. Still a call: nodes may be put before and after it.
  virtual void at_call(Node* call, const std::string& path) = 0;

  Graph& graph_;

 private:
  void walk(Block* block) {
    for (auto it = block->nodes().begin(); it != block->nodes().end();) {
      Node* node = *it;
      ++it;
      for (Block* inner : node->blocks()) walk(inner);
      if (node->hasAttribute(attr::Subgraph)) note_forked(node);
      if (node->kind() != prim::CallMethod) continue;
      auto path = path_of(node->input(0));
      if (!path) {
        note_dynamic(node->input(0));
        continue;
      }
      auto callee = module_at(*path);
      if (!callee) continue;
      const auto& method = node->s(attr::name);
      if (is_forward(method)) at_call(node, *path);
      if (!enters(*path)) continue;
      Node* before = node->prev();
      take_apart(node, *callee, method);
      it = before->iterator();
      ++it;
    }
  }

  void take_apart(Node* call, const Module& callee, const std::string& method) {
    auto* function = torch::jit::tryToGraphFunction(callee.type()->getMethod(method));
    if (!function) return;
    function->ensure_defined();
    // An attribute may be declared by an interface; what is inlined is compiled for the class that is there.
    if (call->input(0)->type()->kind() == c10::TypeKind::InterfaceType)
      call->input(0)->setType(callee.type());
    torch::jit::WithInsertPoint guard(call);
    std::unordered_map<Value*, Value*> map;
    auto outputs = torch::jit::insertGraph(graph_, *function->graph(), call->inputs(), map);
    for (size_t i = 0; i < outputs.size(); i++) call->outputs()[i]->replaceAllUsesWith(outputs[i]);
    call->destroy();
  }

  // The dotted path of a module, following attributes to the module whose method this is; none for one that
  // comes another way: out of a list by an index known when it runs, or as an argument.
  optional<std::string> path_of(Value* value) {
    if (value == self_) return std::string();
    auto captured = captured_.find(value);
    if (captured != captured_.end()) return path_of(captured->second);
    Node* node = value->node();
    if (node->kind() != prim::GetAttr) return nullopt;
    auto parent = path_of(node->input(0));
    if (!parent) return nullopt;
    return join_path(*parent, node->s(attr::name));
  }

  optional<Module> module_at(const std::string& path) {
    Module module = root_;
    for (size_t start = 0; start < path.size();) {
      auto end = std::min(path.find('.', start), path.size());
      auto name = path.substr(start, end - start);
      if (!module.hasattr(name) || !module.attr(name).isModule()) return nullopt;
      module = module.attr(name).toModule();
      start = end + 1;
    }
    return module;
  }

  // What a `torch.jit.fork` runs, runs in another thread.
  void note_forked(Node* fork) {
    auto subgraph = fork->g(attr::Subgraph);
    for (size_t i = 0; i < subgraph->inputs().size() && i < fork->inputs().size(); i++)
      captured_[subgraph->inputs()[i]] = fork->input(i);
    note_forked(subgraph->block());
  }
  void note_forked(Block* block) {
    for (Node* node : block->nodes()) {
      for (Block* inner : node->blocks()) note_forked(inner);
      if (node->kind() != prim::CallMethod) continue;
      if (auto path = path_of(node->input(0))) forked_.push_back(*path);
    }
  }

  bool mentions(Block* block, const std::string& path) {
    for (Node* node : block->nodes()) {
      if (node->kind() == prim::GetAttr && path_of(node->output()) == path) return true;
      for (Block* inner : node->blocks())
        if (mentions(inner, path)) return true;
    }
    return false;
  }

  // The container that a module was picked from.
  void note_dynamic(Value* value) {
    while (!value->node()->inputs().empty()) {
      value = value->node()->input(0);
      if (auto path = path_of(value)) {
        dynamic_.push_back(*path);
        return;
      }
    }
  }

  const Module root_;
  Value* self_;
  std::unordered_map<Value*, Value*> captured_;  // by a fork
  std::vector<std::string> forked_, dynamic_;
};

class CallCollector : public Walker {
 public:
  using Walker::Walker;
  std::vector<Call> calls;

 private:
  bool enters(const std::string&) override { return true; }
  void at_call(Node* call, const std::string& path) override {
    auto [entry, is_new] = index_.emplace(path, calls.size());
    if (is_new) {
      calls.push_back({path, 0, call->output()->type(), {}});
      for (size_t i = 1; i < call->inputs().size(); i++)
        calls.back().inputs.push_back(call->input(i)->type());
    }
    calls[entry->second].count++;
  }

  std::unordered_map<std::string, size_t> index_;
};

class TapInserter : public Walker {
 public:
  TapInserter(Graph& graph, const Module& root, const std::vector<Tap>& taps)
      : Walker(graph, root), taps_(taps), placed_(taps.size(), false) {}

  void insert() {
    walk();
    tap_root();
  }

  bool is_placed(size_t tap) const { return placed_[tap]; }

 private:
  bool enters(const std::string& path) override {
    return std::any_of(taps_.begin(), taps_.end(), [&](const Tap& tap) {
      return path.empty() ? !tap.path.empty() : tap.path.compare(0, path.size() + 1, path + ".") == 0;
    });
  }

  void at_call(Node* call, const std::string& path) override {
    for (size_t i = 0; i < taps_.size(); i++)
      if (taps_[i].path == path) taps_[i].input ? tap_input(call, i) : tap_output(call, i);
  }

  // Only this module gets what comes out of the tap: others that use the value see it untouched.
  void tap_input(Node* call, size_t i) {
    std::vector<TypePtr> types;
    for (size_t k = 1; k < call->inputs().size(); k++) types.push_back(call->input(k)->type());
    size_t argument = 1 + choose_argument(taps_[i], types);
    torch::jit::WithInsertPoint guard(call);
    call->replaceInput(argument, create(call->input(argument), i)->output());
  }

  void tap_output(Node* call, size_t i) {
    check_output(taps_[i], call->output()->type());
    torch::jit::WithInsertPoint guard(call->next());
    Node* tap = create(call->output(), i);
    call->output()->replaceAllUsesWith(tap->output());
    tap->replaceInput(0, call->output());
  }

  // The module itself is called by no node.
  void tap_root() {
    for (size_t i = 0; i < taps_.size(); i++) {
      if (!taps_[i].path.empty()) continue;
      if (taps_[i].input) {
        std::vector<TypePtr> types;
        for (size_t k = 1; k < graph_.inputs().size(); k++) types.push_back(graph_.inputs()[k]->type());
        Value* value = graph_.inputs()[1 + choose_argument(taps_[i], types)];
        torch::jit::WithInsertPoint guard(*graph_.nodes().begin());
        Node* tap = create(value, i);
        value->replaceAllUsesWith(tap->output());
        tap->replaceInput(0, value);
      } else {
        Value* value = graph_.outputs().at(0);
        check_output(taps_[i], value->type());
        torch::jit::WithInsertPoint guard(graph_.return_node());
        graph_.return_node()->replaceInput(0, create(value, i)->output());
      }
    }
  }

  // At the insert point.
  Node* create(Value* value, size_t i) {
    static const auto kind = c10::Symbol::fromQualString("alambic::tap");
    Value* number = graph_.insertConstant(static_cast<int64_t>(i));
    Node* tap = graph_.insertNode(graph_.create(kind, {value, number}, 1));
    tap->output()->setType(value->type());
    placed_[i] = true;
    return tap;
  }

  static void check_output(const Tap& tap, const TypePtr& type) {
    check_steps(tap, type, "output", tap.path);
  }

  static size_t choose_argument(const Tap& tap, const std::vector<TypePtr>& types) {
    if (tap.argument >= 0) {
      if (static_cast<size_t>(tap.argument) >= types.size())
        fail("ERR_ARGUMENT", "captureFeatures: ", quoted(tap), " has ", types.size(), " inputs, not ",
             tap.argument + 1);
      check_steps(tap, types[tap.argument], "input", c10::str(tap.path, "[", tap.argument, "]"));
      return tap.argument;
    }
    for (size_t i = 0; i < types.size(); i++)
      if (types[i]->isSubtypeOf(*c10::TensorType::get())) return i;
    std::vector<std::string> inside, shown;
    for (size_t i = 0; i < types.size(); i++) {
      collect_tensors(types[i], c10::str(tap.path, "[", i, "]"), inside);
      shown.push_back(type_name(types[i]));
    }
    fail("ERR_ARGUMENT", "captureFeatures: expected a tensor among the inputs of ", quoted(tap), ", got (",
         joined(shown), ")", inside.empty() ? "" : "; name a tensor inside: " + joined(inside));
  }

  static void check_steps(const Tap& tap, const TypePtr& whole, const char* what, const std::string& prefix) {
    if (tap.whole) return;
    auto type = whole;
    for (const auto& step : tap.steps) {
      type = after_step(type, step);
      if (!type) break;
    }
    if (type && may_be_tensor(type)) return;
    std::vector<std::string> inside;
    collect_tensors(whole, prefix, inside);
    std::string steps;
    for (const auto& step : tap.steps) steps += "[" + step + "]";
    fail("ERR_ARGUMENT", "captureFeatures: expected the ", what, " of \"", prefix, steps,
         "\" to be a tensor, got ", type ? type_name(type) : "nothing: it is " + type_name(whole),
         inside.empty() ? none_inside(whole) : "; name a tensor inside: " + joined(inside));
  }

  static std::string none_inside(const TypePtr& type) {
    if (type->kind() != c10::TypeKind::NoneType) return "; it holds none";
    return ". A module that gives back what it is given has no output in a traced file: capture the layer "
           "before it";
  }

  static std::string quoted(const Tap& tap) { return '"' + tap.path + '"'; }

  const std::vector<Tap>& taps_;
  std::vector<bool> placed_;
};

std::string simple_name(const Module& module) {
  return module.type()->name() ? module.type()->name()->name() : "the module";
}

bool lies_in(const std::string& path, const std::string& container) {
  return container.empty() || path == container ||
         path.compare(0, container.size() + 1, container + ".") == 0;
}

template <typename Paths>
bool any_holds(const Paths& containers, const std::string& path) {
  return std::any_of(containers.begin(), containers.end(),
                     [&](const std::string& each) { return lies_in(path, each); });
}

// Why a path that names a module has no value.
[[noreturn]] void refuse_path(const Tap& tap, const Module& module, const std::string& method,
                              Walker& walker) {
  auto what = c10::str("captureFeatures: the layer \"", tap.path, "\" of ", simple_name(module));
  auto calls = calls_of(module, method);
  std::vector<std::string> all, inside;
  for (const auto& call : calls) {
    all.push_back(call.path);
    if (call.path != tap.path && lies_in(call.path, tap.path)) inside.push_back(call.path);
  }
  if (any_holds(walker.forked(), tap.path))
    fail("ERR_UNKNOWN_LAYER", what, " runs inside a torch.jit.fork, in another thread: it can't be captured");
  if (any_holds(walker.dynamic(), tap.path))
    fail("ERR_UNKNOWN_LAYER", what,
         " is picked by an index that is known only when the model runs, so its calls have no path: it can't "
         "be "
         "captured");
  if (all.empty())
    fail("ERR_UNKNOWN_LAYER", what, " can't be captured: ", method,
         " calls no module (was the file frozen?)");
  if (!inside.empty())
    fail("ERR_UNKNOWN_LAYER", what, " only holds others, ", method, " does not call it; it calls ",
         joined(inside));
  if (walker.mentions(tap.path))
    fail("ERR_UNKNOWN_LAYER", what, " is not called by ", method,
         ": its code stands in that of another module (the file was saved so); what is called is ",
         joined(all));
  fail("ERR_UNKNOWN_LAYER", what, " is never called by ", method, "; it calls ", joined(all));
}

}  // namespace

void insert_taps(Graph& graph, const Module& module, const std::string& method,
                 const std::vector<Tap>& taps) {
  TapInserter inserter(graph, module, taps);
  inserter.insert();
  for (size_t i = 0; i < taps.size(); i++)
    if (!inserter.is_placed(i)) refuse_path(taps[i], module, method, inserter);
  graph.lint();
}

std::unique_ptr<torch::jit::GraphFunction> with_taps(const Module& module, const std::string& method,
                                                     const std::vector<Tap>& taps) {
  auto& function = torch::jit::toGraphFunction(module.get_method(method).function());
  function.ensure_defined();
  auto graph = function.graph()->copy();
  insert_taps(*graph, module, method, taps);
  return std::make_unique<torch::jit::GraphFunction>(c10::QualifiedName(method), graph, nullptr);
}

std::vector<Call> calls_of(const Module& module, const std::string& method) {
  auto& function = torch::jit::toGraphFunction(module.get_method(method).function());
  function.ensure_defined();
  auto graph = function.graph()->copy();
  CallCollector collector(*graph, module);
  collector.walk();
  return std::move(collector.calls);
}

}  // namespace alambic::script
