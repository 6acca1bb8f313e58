#include "tensors/values.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "autograd/autograd.h"
#include "compat.h"
#include "environment.h"
#include "errors.h"
#include "text.h"

namespace alambic {

namespace {

struct DtypeName {
  const char* name;
  at::ScalarType type;
};

constexpr DtypeName dtypes[] = {{"float32", at::kFloat},
                                {"float64", at::kDouble},
                                {"float16", at::kHalf},
                                {"bfloat16", at::kBFloat16},
                                {"uint8", at::kByte},
                                {"int8", at::kChar},
                                {"int16", at::kShort},
                                {"int32", at::kInt},
                                {"int64", at::kLong},
                                {"bool", at::kBool},
                                {"complex32", at::kComplexHalf},
                                {"complex64", at::kComplexFloat},
                                {"complex128", at::kComplexDouble},
                                {"qint8", at::kQInt8},
                                {"quint8", at::kQUInt8},
                                {"qint32", at::kQInt32},
                                ALAMBIC_NEWER_DTYPES};

template <typename Value>
struct Named {
  const char* name;
  Value value;
};

constexpr Named<at::MemoryFormat> memory_formats[] = {
    {"contiguous", at::MemoryFormat::Contiguous},
    {"preserve", at::MemoryFormat::Preserve},
    {"channelsLast", at::MemoryFormat::ChannelsLast},
    {"channelsLast3d", at::MemoryFormat::ChannelsLast3d},
};

constexpr Named<at::Layout> layouts[] = {
    {"strided", at::kStrided},     {"sparse", at::kSparse},       {"sparseCsr", at::kSparseCsr},
    {"sparseCsc", at::kSparseCsc}, {"sparseBsr", at::kSparseBsr}, {"sparseBsc", at::kSparseBsc},
    {"mkldnn", at::kMkldnn},
};

template <typename Value, size_t N>
Value find_named(const char* kind, const Named<Value> (&table)[N], const std::string& name) {
  for (const auto& entry : table)
    if (name == entry.name) return entry.value;
  std::ostringstream known;
  for (const auto& entry : table) known << (known.tellp() ? ", " : "") << '"' << entry.name << '"';
  fail("ERR_ARGUMENT", kind, ": expected one of ", known.str(), ", got \"", name, "\"");
}

template <typename Value, size_t N>
const char* name_of(const Named<Value> (&table)[N], Value value) {
  for (const auto& entry : table)
    if (value == entry.value) return entry.name;
  return "unknown";
}

const char* type_name(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return "a boolean";
    case napi_number:
      return "a number";
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    case napi_external:
      return "an external value";
    default:
      return value.IsArray() ? "an array" : "an object";
  }
}

[[noreturn]] void wrong_type(const char* what, const char* expected, const Napi::Value& value) {
  fail("ERR_ARGUMENT", what, ": expected ", expected, ", got ", type_name(value));
}

}  // namespace

const char* dtype_name(at::ScalarType dtype) {
  for (const auto& entry : dtypes)
    if (entry.type == dtype) return entry.name;
  return c10::toString(dtype);
}

optional<at::ScalarType> find_dtype(const std::string& name) {
  for (const auto& entry : dtypes)
    if (name == entry.name) return entry.type;
  return nullopt;
}

// What PyTorch, C and others call dtypes.
constexpr std::pair<const char*, const char*> dtype_aliases[] = {
    {"float", "float32"},     {"double", "float64"},   {"half", "float16"},       {"long", "int64"},
    {"int", "int32"},         {"short", "int16"},      {"char", "int8"},          {"byte", "uint8"},
    {"boolean", "bool"},      {"cfloat", "complex64"}, {"cdouble", "complex128"}, {"chalf", "complex32"},
    {"complex", "complex64"}, {"f16", "float16"},      {"f32", "float32"},        {"f64", "float64"},
    {"bf16", "bfloat16"},     {"fp16", "float16"},     {"fp32", "float32"},       {"fp64", "float64"},
    {"i8", "int8"},           {"i16", "int16"},        {"i32", "int32"},          {"i64", "int64"},
    {"u8", "uint8"},          {"u16", "uint16"},       {"u32", "uint32"},         {"u64", "uint64"},
};

// The dtype that a name may mean, or nothing.
static std::string nearest_dtype(const std::string& name) {
  auto word = name.substr(name.rfind('.') + 1);  // of torch.float32, np.float32
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const auto& [alias, meant] : dtype_aliases)
    if (word == alias) return meant;
  auto near = nearest(word, dtype_names(), 1);
  return near.empty() ? "" : near.front();
}

at::ScalarType parse_dtype(const std::string& name) {
  if (auto dtype = find_dtype(name)) return *dtype;
  std::ostringstream known;
  for (const auto& entry : dtypes) known << (known.tellp() ? ", " : "") << entry.name;
  auto near = nearest_dtype(name);
  fail("ERR_DTYPE", "dtype: expected one of ", known.str(), "; got \"", name, "\"",
       near.empty() ? "" : "; did you mean \"" + near + "\"?");
}

std::vector<std::string> dtype_names() {
  std::vector<std::string> names;
  for (const auto& entry : dtypes) names.emplace_back(entry.name);
  return names;
}

// A device that is not there would be reported by each operator in its own words.
static void check_present(const at::Device& device) {
  if (!device.is_cuda()) return;
  if (!at::hasCUDA())
    fail("ERR_DEVICE", "device: expected a device that is there, got \"", device.str(),
         "\", but this libtorch finds no CUDA device (no GPU, no driver, or a CPU build; `alambic doctor` "
         "tells)");
  auto count = static_cast<int64_t>(at::detail::getCUDAHooks().getNumGPUs());
  if (device.has_index() && device.index() >= count)
    fail("ERR_DEVICE", "device: expected one of ", count, " CUDA devices (cuda:0 to cuda:", count - 1,
         "), got \"", device.str(), "\"");
}

at::Device parse_device(const std::string& text) {
  optional<at::Device> device;
  try {
    device = at::Device(text);
  } catch (const c10::Error&) {
    auto near = nearest_dtype(text);
    fail("ERR_DEVICE", "device: expected a device such as \"cpu\", \"cuda\" or \"cuda:0\", got \"", text,
         "\"", near.empty() ? "" : "; among dtypes, the nearest is \"" + near + "\"");
  }
  check_present(*device);
  return *device;
}

at::MemoryFormat parse_memory_format(const std::string& name) {
  return find_named("memoryFormat", memory_formats, name);
}
const char* memory_format_name(at::MemoryFormat format) { return name_of(memory_formats, format); }
at::Layout parse_layout(const std::string& name) { return find_named("layout", layouts, name); }
const char* layout_name(at::Layout layout) { return name_of(layouts, layout); }

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  std::ostringstream text;
  text << dtype_name(tensor.scalar_type()) << " (";
  if (tensor.is_nested())
    text << "nested";  // asked for its sizes, libtorch throws
  else
    text << c10::Join(", ", tensor.sizes());
  text << ")";
  if (!tensor.device().is_cpu()) text << " on " << tensor.device().str();
  return text.str();
}

Handle to_handle(const Napi::Value& value) {
  double number = 0;
  if (napi_get_value_double(value.Env(), value, &number) != napi_ok ||
      !(number >= 0 && number < 9007199254740992.0))
    wrong_type("tensor", "a tensor handle", value);
  return static_cast<Handle>(number);
}

const at::Tensor& to_tensor(const Napi::Value& value) {
  return Environment::of(value.Env()).tensors.get(to_handle(value));
}

at::Tensor to_optional_tensor(const Napi::Value& value) {
  return value.IsNull() ? at::Tensor() : to_tensor(value);
}

std::vector<at::Tensor> to_tensors(const Napi::Value& value, const char* what) {
  if (!value.IsArray()) wrong_type(what, "an array of tensors", value);
  auto array = value.As<Napi::Array>();
  std::vector<at::Tensor> tensors;
  tensors.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) tensors.push_back(to_tensor(array.Get(i)));
  return tensors;
}

std::vector<int64_t> to_integers(const Napi::Value& value, const char* what) {
  if (!value.IsArray()) wrong_type(what, "an array of integers", value);
  auto array = value.As<Napi::Array>();
  std::vector<int64_t> integers;
  integers.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) integers.push_back(to_integer(array.Get(i), what));
  return integers;
}

int64_t to_integer(const Napi::Value& value, const char* what) {
  if (value.IsBigInt()) {
    bool lossless = false;
    auto integer = value.As<Napi::BigInt>().Int64Value(&lossless);
    if (!lossless) fail("ERR_ARGUMENT", what, ": the bigint does not fit into 64 bits");
    return integer;
  }
  if (!value.IsNumber()) wrong_type(what, "an integer", value);
  double number = value.As<Napi::Number>().DoubleValue();
  if (!(std::abs(number) <= 9007199254740992.0) || std::trunc(number) != number)
    fail("ERR_ARGUMENT", what, ": expected an integer, got ", number);
  return static_cast<int64_t>(number);
}

double to_double(const Napi::Value& value, const char* what) {
  if (!value.IsNumber()) wrong_type(what, "a number", value);
  return value.As<Napi::Number>().DoubleValue();
}

bool to_bool(const Napi::Value& value, const char* what) {
  if (!value.IsBoolean()) wrong_type(what, "a boolean", value);
  return value.As<Napi::Boolean>().Value();
}

std::string to_text(const Napi::Value& value, const char* what) {
  if (!value.IsString()) wrong_type(what, "a string", value);
  return value.As<Napi::String>().Utf8Value();
}

Napi::Value from_tensor(Napi::Env env, at::Tensor tensor) {
  return Napi::Number::New(env,
                           static_cast<double>(Environment::of(env).adopt(with_memory(std::move(tensor)))));
}

Napi::Value from_optional_tensor(Napi::Env env, at::Tensor tensor) {
  return tensor.defined() ? from_tensor(env, std::move(tensor)) : Napi::Number::New(env, 0);
}

Napi::Array from_tensors(Napi::Env env, at::TensorList tensors) {
  auto array = Napi::Array::New(env, tensors.size());
  for (size_t i = 0; i < tensors.size(); i++)
    array.Set(static_cast<uint32_t>(i), from_optional_tensor(env, tensors[i]));
  return array;
}

Napi::Array from_integers(Napi::Env env, at::IntArrayRef values) {
  auto array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); i++)
    array.Set(static_cast<uint32_t>(i), static_cast<double>(values[i]));
  return array;
}

}  // namespace alambic
