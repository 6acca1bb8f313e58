#include "calls/unboxed.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <chrono>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "calls/arguments.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

// ---- What C++ functions take
// ------------------------------------------------------------------------------------------

// Form<T>, for a parameter of type T: its type in schemas, what holds a value during the call, how that is
// made of a default or of a value from JavaScript, and what the function gets of it. `visit` shows the
// tensors in it.
template <typename T>
struct Form;

struct HoldsNoTensor {
  template <typename Held, typename Visit>
  static void visit(const Held&, Visit) {}
};

template <typename T, T (Reader::*read_value)(const Argument&) const>
struct ValueForm : HoldsNoTensor {
  using Held = T;
  static Held of_default(const at::IValue& value) { return value.to<T>(); }
  static Held read(const Reader& reader, const Parameter&, const Argument& argument) {
    return (reader.*read_value)(argument);
  }
  static const T& get(const Held& held) { return held; }
};

template <>
struct Form<int64_t> : ValueForm<int64_t, &Reader::integer> {
  static std::string type() { return "int"; }
};
template <>
struct Form<double> : ValueForm<double, &Reader::number> {
  static std::string type() { return "float"; }
};
template <>
struct Form<bool> : ValueForm<bool, &Reader::boolean> {
  static std::string type() { return "bool"; }
};
template <>
struct Form<c10::string_view> : ValueForm<std::string, &Reader::text> {
  static std::string type() { return "str"; }
};
template <>
struct Form<at::ScalarType> : ValueForm<at::ScalarType, &Reader::dtype> {
  static std::string type() { return "ScalarType"; }
};
template <>
struct Form<at::Layout> : ValueForm<at::Layout, &Reader::layout> {
  static std::string type() { return "Layout"; }
};
template <>
struct Form<at::MemoryFormat> : ValueForm<at::MemoryFormat, &Reader::memory_format> {
  static std::string type() { return "MemoryFormat"; }
};
template <>
struct Form<at::Device> : ValueForm<at::Device, &Reader::device> {
  static std::string type() { return "Device"; }
};
template <>
struct Form<at::Generator> : ValueForm<at::Generator, &Reader::generator> {
  static std::string type() { return "Generator"; }
};
template <>
struct Form<const at::Scalar&> : ValueForm<at::Scalar, &Reader::scalar> {
  static std::string type() { return "Scalar"; }
};

// Symbolic integers: those of JavaScript are plain.
template <>
struct Form<c10::SymInt> : HoldsNoTensor {
  using Held = c10::SymInt;
  static std::string type() { return "SymInt"; }
  static Held of_default(const at::IValue& value) { return value.toInt(); }
  static Held read(const Reader& reader, const Parameter&, const Argument& argument) {
    return reader.integer(argument);
  }
  static const c10::SymInt& get(const Held& held) { return held; }
};

template <>
struct Form<at::IntArrayRef> : HoldsNoTensor {
  using Held = at::DimVector;
  static std::string type() { return "int[]"; }
  static Held of_default(const at::IValue& value) { return Held(value.toIntVector()); }
  static Held read(const Reader& reader, const Parameter& parameter, const Argument& argument) {
    Held held;
    reader.each_integer(parameter, argument, [&](int64_t each) { held.push_back(each); });
    return held;
  }
  static at::IntArrayRef get(const Held& held) { return held; }
};
template <>
struct Form<c10::SymIntArrayRef> : Form<at::IntArrayRef> {
  static std::string type() { return "SymInt[]"; }
  static c10::SymIntArrayRef get(const Held& held) { return compat::to_symbolic(held); }
};

template <>
struct Form<at::ArrayRef<double>> : HoldsNoTensor {
  using Held = std::vector<double>;
  static std::string type() { return "float[]"; }
  static Held of_default(const at::IValue& value) { return value.toDoubleVector(); }
  static Held read(const Reader& reader, const Parameter& parameter, const Argument& argument) {
    return reader.float_list(parameter, argument);
  }
  static at::ArrayRef<double> get(const Held& held) { return held; }
};

// The handle table's own tensor where there is one: to count a reference costs as much as to look it up.
template <>
struct Form<const at::Tensor&> {
  using Held = c10::MaybeOwned<at::Tensor>;
  static std::string type() { return "Tensor"; }
  static Held of_default(const at::IValue& value) {
    return Held::owned(value.isNone() ? at::Tensor() : at::Tensor(value.toTensor()));
  }
  static Held read(const Reader& reader, const Parameter&, const Argument& argument) {
    return argument.tag == Tag::Tensor ? Held::borrowed(*argument.tensor)
                                       : Held::owned(reader.tensor(argument));
  }
  static const at::Tensor& get(const Held& held) { return *held; }
  template <typename Visit>
  static void visit(const Held& held, Visit visit) {
    visit(*held);
  }
};

// Written to.
template <>
struct Form<at::Tensor&> {
  using Held = at::Tensor;
  static std::string type() { return "Tensor(!)"; }
  static Held of_default(const at::IValue& value) { return value.toTensor(); }
  static Held read(const Reader& reader, const Parameter&, const Argument& argument) {
    return reader.tensor(argument);
  }
  static at::Tensor& get(Held& held) { return held; }
  template <typename Visit>
  static void visit(const Held& held, Visit visit) {
    visit(held);
  }
};

template <>
struct Form<at::TensorList> {
  using Held = std::vector<at::Tensor>;
  static std::string type() { return "Tensor[]"; }
  static Held of_default(const at::IValue& value) { return value.toTensorVector(); }
  static Held read(const Reader& reader, const Parameter&, const Argument& argument) {
    return reader.tensors(argument);
  }
  static at::TensorList get(const Held& held) { return held; }
  template <typename Visit>
  static void visit(const Held& held, Visit visit) {
    for (const auto& tensor : held) visit(tensor);
  }
};
// The other type that C++ has for it: cat.
template <>
struct Form<const at::ITensorListRef&> : Form<at::TensorList> {
  static at::ITensorListRef get(const Held& held) { return held; }
};

// `Base?`
template <typename Base, typename Optional>
struct OptionalForm {
  using Held = optional<typename Form<Base>::Held>;
  static std::string type() { return Form<Base>::type() + "?"; }
  static Held of_default(const at::IValue& value) {
    return value.isNone() ? Held() : Held(Form<Base>::of_default(value));
  }
  static Held read(const Reader& reader, const Parameter& parameter, const Argument& argument) {
    return argument.tag == Tag::Null ? Held() : Held(Form<Base>::read(reader, parameter, argument));
  }
  static Optional get(const Held& held) { return held ? Optional(Form<Base>::get(*held)) : Optional(); }
  template <typename Visit>
  static void visit(const Held& held, Visit visit) {
    if (held) Form<Base>::visit(*held, visit);
  }
};
template <typename T>
struct Form<optional<T>> : OptionalForm<T, optional<T>> {};
template <>
struct Form<const optional<at::Tensor>&> : OptionalForm<const at::Tensor&, optional<at::Tensor>> {};
template <>
struct Form<const optional<at::Scalar>&> : OptionalForm<const at::Scalar&, optional<at::Scalar>> {};
template <>
struct Form<at::OptionalIntArrayRef> : OptionalForm<at::IntArrayRef, at::OptionalIntArrayRef> {};
template <>
struct Form<at::OptionalSymIntArrayRef> : OptionalForm<c10::SymIntArrayRef, at::OptionalSymIntArrayRef> {};

// ---- Past autograd
// ----------------------------------------------------------------------------------------------------

// Whether it is an operator of libtorch that writes to none of its arguments and has one result, a tensor.
bool is_functional(const c10::FunctionSchema& schema) {
  for (const auto& argument : schema.arguments())
    if (argument.alias_info()) return false;
  return schema.operator_name().name.compare(0, 6, "aten::") == 0 && schema.returns().size() == 1 &&
         !schema.returns()[0].alias_info() && schema.returns()[0].type()->kind() == c10::TypeKind::TensorType;
}

// Neither it nor what it is a view of can require a gradient: autograd would find nothing to record.
bool is_unknown_to_autograd(const at::Tensor& tensor) {
  return !tensor.defined() || tensor.unsafeGetTensorImpl()->autograd_meta() == nullptr;
}

// Another tensor of the same memory: a view that the schema does not tell of, such as atleast_2d returns.
// Autograd has to know it.
bool is_view_of(const at::Tensor& tensor, const at::Tensor& base) {
  if (tensor.is_same(base)) return false;
  const auto* storage = tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
  return storage != nullptr && storage == base.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
}

// ---- Calls
// ------------------------------------------------------------------------------------------------------------

template <typename Signature>
class Typed;

template <typename Result, typename... Types>
class Typed<Result(Types...)> final : public UnboxedCall {
 public:
  Typed(const Overload& overload, const std::vector<int>& source)
      : Typed(overload, source, std::index_sequence_for<Types...>()) {}

  at::Tensor call(const Reader& reader, const Argument* arguments) const override {
    auto held = hold(reader, arguments, indices);
    return run(held);
  }

  double time(const Reader& reader, const Argument* arguments, size_t calls) const override {
    auto held = hold(reader, arguments, indices);
    auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < calls; i++) run(held);
    std::chrono::duration<double, std::nano> duration = std::chrono::steady_clock::now() - start;
    return duration.count() / static_cast<double>(calls);
  }

  static std::string schema_types() { return (std::string() + ... + (Form<Types>::type() + " ")); }

 private:
  static constexpr std::index_sequence_for<Types...> indices{};
  using Held = std::tuple<typename Form<Types>::Held...>;

  template <typename T>
  struct Slot {
    const Parameter* parameter;
    int source;
    typename Form<T>::Held default_value;
  };

  template <size_t... i>
  Typed(const Overload& overload, const std::vector<int>& source, std::index_sequence<i...>)
      : target_(overload.handle.typed<Result(Types...)>()),
        is_functional_(is_functional(overload.handle.schema())),
        slots_(make_slot<Types>(overload.parameters[i], source[i])...) {}

  template <typename T>
  static Slot<T> make_slot(const Parameter& parameter, int source) {
    using Held = typename Form<T>::Held;
    return {&parameter, source, source < 0 ? Form<T>::of_default(parameter.default_value) : Held()};
  }

  template <size_t... i>
  Held hold(const Reader& reader, const Argument* arguments, std::index_sequence<i...>) const {
    return Held{hold<Types>(std::get<i>(slots_), reader, arguments)...};
  }
  template <typename T>
  static typename Form<T>::Held hold(const Slot<T>& slot, const Reader& reader, const Argument* arguments) {
    return slot.source < 0 ? slot.default_value
                           : Form<T>::read(reader, *slot.parameter, arguments[slot.source]);
  }

  // Past autograd's kernels where they would have nothing to record.
  at::Tensor run(Held& held) const {
    if (!is_functional_ || !all_tensors(held, indices, is_unknown_to_autograd) || trace::is_recording())
      return run(held, indices);
    {
      at::AutoDispatchBelowADInplaceOrView below_autograd;
      auto result = run(held, indices);
      bool is_new = all_tensors(held, indices, [&](const auto& each) { return !is_view_of(result, each); });
      if (is_new) return result;
    }
    return run(held, indices);
  }

  template <size_t... i>
  at::Tensor run(Held& held, std::index_sequence<i...>) const {
    if constexpr (!std::is_reference_v<Result>) return target_.call(Form<Types>::get(std::get<i>(held))...);
    target_.call(Form<Types>::get(std::get<i>(held))...);
    return at::Tensor();
  }

  template <size_t... i, typename Predicate>
  static bool all_tensors(const Held& held, std::index_sequence<i...>, Predicate predicate) {
    bool result = true;
    (Form<Types>::visit(std::get<i>(held),
                        [&](const at::Tensor& each) { result = result && predicate(each); }),
     ...);
    return result;
  }

  c10::TypedOperatorHandle<Result(Types...)> target_;
  bool is_functional_;
  std::tuple<Slot<Types>...> slots_;
};

// ---- Signatures
// -------------------------------------------------------------------------------------------------------

using Maker = std::unique_ptr<UnboxedCall> (*)(const Overload&, const std::vector<int>&);
using Makers = std::multimap<std::string, Maker>;  // by the types of a schema's arguments

template <typename... Types>
void add_signature(Makers& makers) {
  using First = std::tuple_element_t<0, std::tuple<Types...>>;
  using Result = std::conditional_t<std::is_same_v<First, at::Tensor&>, at::Tensor&, at::Tensor>;
  using Call = Typed<Result(Types...)>;
  makers.emplace(Call::schema_types(), [](const Overload& overload, const std::vector<int>& source) {
    return std::unique_ptr<UnboxedCall>(new Call(overload, source));
  });
}

// Integers that are symbolic in one operator, or version of libtorch, are plain in another.
template <typename T>
struct Plain {
  using Type = T;
};
template <>
struct Plain<c10::SymInt> : Plain<int64_t> {};
template <>
struct Plain<optional<c10::SymInt>> : Plain<optional<int64_t>> {};
template <>
struct Plain<c10::SymIntArrayRef> : Plain<at::IntArrayRef> {};
template <>
struct Plain<at::OptionalSymIntArrayRef> : Plain<at::OptionalIntArrayRef> {};

template <typename... Types>
void add(Makers& makers) {
  add_signature<Types...>(makers);
  if constexpr (!(std::is_same_v<Types, typename Plain<Types>::Type> && ...))
    add_signature<typename Plain<Types>::Type...>(makers);
}

// For operators that make a tensor, and those that change their first.
template <typename... Others>
void add_both(Makers& makers) {
  add<const at::Tensor&, Others...>(makers);
  add<at::Tensor&, Others...>(makers);
}

// Those that several operators share, and some that every network calls.
Makers make_makers() {
  using Tensor = const at::Tensor&;
  using MaybeTensor = const optional<at::Tensor>&;
  using Scalar = const at::Scalar&;
  using MaybeScalar = const optional<at::Scalar>&;
  using Ints = at::IntArrayRef;
  using MaybeInts = at::OptionalIntArrayRef;
  using SymInts = c10::SymIntArrayRef;
  using SymInt = c10::SymInt;
  using MaybeDtype = optional<at::ScalarType>;
  using MaybeLayout = optional<at::Layout>;
  using MaybeDevice = optional<at::Device>;
  using MaybeFormat = optional<at::MemoryFormat>;
  using MaybeGenerator = optional<at::Generator>;
  using Int = int64_t;
  Makers makers;

  // Element by element.
  add_both<>(makers);                                    // relu, sqrt
  add_both<Tensor>(makers);                              // mul, matmul
  add_both<Tensor, Scalar>(makers);                      // add
  add_both<Tensor, Tensor>(makers);                      // where, lerp
  add_both<Tensor, Tensor, Scalar>(makers);              // addcmul
  add_both<Tensor, Tensor, Scalar, Scalar>(makers);      // addmm
  add_both<Scalar>(makers);                              // pow, leaky_relu
  add_both<Scalar, Scalar>(makers);                      // hardtanh, threshold
  add_both<MaybeScalar, MaybeScalar>(makers);            // clamp
  add_both<c10::string_view>(makers);                    // gelu
  add_both<double, bool>(makers);                        // dropout
  add_both<MaybeGenerator>(makers);                      // bernoulli
  add_both<double, MaybeGenerator>(makers);              // bernoulli
  add_both<double, double, MaybeGenerator>(makers);      // normal_
  add_both<Tensor, bool>(makers);                        // copy_
  add_both<Tensor, optional<c10::string_view>>(makers);  // div, with rounding

  // Reductions.
  add<Tensor, MaybeDtype>(makers);                   // sum
  add<Tensor, MaybeInts, bool, MaybeDtype>(makers);  // sum of dimensions
  add<Tensor, optional<Int>, bool>(makers);          // argmax
  add<Tensor, Int, bool>(makers);                    // all, argsort
  add<Tensor, bool>(makers);                         // std
  add<Tensor, Int, MaybeDtype>(makers);              // softmax, cumsum

  // Shapes, selections, copies.
  add<Tensor, SymInts>(makers);                                          // view, reshape, permute
  add<Tensor, SymInts, bool>(makers);                                    // expand, amax
  add_both<Int>(makers);                                                 // unsqueeze
  add<at::Tensor&, Int, Int>(makers);                                    // transpose_
  add<Tensor, Int, SymInt>(makers);                                      // select, transpose, flatten
  add<Tensor, Int, SymInt, SymInt>(makers);                              // narrow
  add<Tensor, Int, optional<SymInt>, optional<SymInt>, SymInt>(makers);  // slice
  add<Tensor, Int, Tensor>(makers);                                      // index_select
  add<Tensor, Int, Tensor, bool>(makers);                                // gather
  add_both<Int, Tensor, Tensor>(makers);                                 // scatter
  add<at::TensorList, Int>(makers);                                      // stack
  add<const at::ITensorListRef&, Int>(makers);                           // cat
  add<Tensor, MaybeFormat>(makers);                                      // clone
  add<Tensor, at::MemoryFormat>(makers);                                 // contiguous
  add<Tensor, at::ScalarType, bool, bool, MaybeFormat>(makers);          // to
  add<Tensor, at::ScalarType>(makers);                                   // view

  // New tensors.
  add<SymInts, MaybeDtype, MaybeLayout, MaybeDevice, optional<bool>, MaybeFormat>(makers);     // empty
  add<SymInts, MaybeDtype, MaybeLayout, MaybeDevice, optional<bool>>(makers);                  // zeros
  add<SymInts, Scalar, MaybeDtype, MaybeLayout, MaybeDevice, optional<bool>>(makers);          // full
  add<Tensor, MaybeDtype, MaybeLayout, MaybeDevice, optional<bool>, MaybeFormat>(makers);      // zeros_like
  add<SymInts, MaybeGenerator, MaybeDtype, MaybeLayout, MaybeDevice, optional<bool>>(makers);  // rand

  // Layers and losses.
  add<Tensor, at::OptionalSymIntArrayRef, optional<at::ArrayRef<double>>>(makers);       // upsample_nearest2d
  add<Tensor, Tensor, MaybeTensor>(makers);                                              // linear
  add<Tensor, Tensor, MaybeTensor, SymInts, SymInts, SymInts, SymInt>(makers);           // conv2d
  add<Tensor, Tensor, MaybeTensor, SymInts, SymInts, SymInts, SymInt, SymInts>(makers);  // conv_transpose2d
  add<Tensor, Ints, Ints, Ints, Ints, bool>(makers);                                     // max_pool2d
  add<Tensor, Ints, Ints, Ints, bool, bool, optional<Int>>(makers);                      // avg_pool2d
  add<Tensor, SymInts, MaybeTensor, MaybeTensor, double, bool>(makers);                  // layer_norm
  add<Tensor, Tensor, Int>(makers);                                                      // mse_loss
  add<Tensor, Tensor, MaybeTensor, Int, SymInt, double>(makers);                         // cross_entropy_loss
  // batch_norm
  add<Tensor, MaybeTensor, MaybeTensor, MaybeTensor, MaybeTensor, bool, double, double, bool>(makers);
  return makers;
}

// The types of a schema's arguments; empty where the result is not one tensor, or something else than the
// first argument is written to.
std::string schema_types(const c10::FunctionSchema& schema) {
  if (schema.returns().size() != 1 || schema.returns()[0].type()->kind() != c10::TypeKind::TensorType)
    return {};
  std::string types;
  for (const auto& argument : schema.arguments()) {
    bool is_changed = argument.alias_info() && argument.alias_info()->isWrite();
    if (is_changed && !types.empty()) return {};
    types += argument.real_type()->str() + (is_changed ? "(!) " : " ");
  }
  const auto* result = schema.returns()[0].alias_info();
  bool changes_first = types.compare(0, 10, "Tensor(!) ") == 0;
  bool returns_first = result && result->isWrite();
  return changes_first == returns_first ? types : std::string();
}

}  // namespace

std::unique_ptr<UnboxedCall> UnboxedCall::of(const Overload& overload, const std::vector<int>& source) {
  static const auto makers = make_makers();
  auto [maker, end] = makers.equal_range(schema_types(overload.handle.schema()));
  for (; maker != end; maker++) {
    try {
      return maker->second(overload, source);
    } catch (const c10::Error&) {
      // Another C++ signature for the same schema: cat and stack, or an operator of a custom library that
      // takes its tensors by value.
    }
  }
  return nullptr;
}

}  // namespace alambic
