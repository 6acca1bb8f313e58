#include "tensors/tensors.h"

#include <ATen/ATen.h>

#include <cstring>
#include <string_view>

#include "environment.h"
#include "errors.h"
#include "memory/large_blocks.h"
#include "tensors/array_buffers.h"
#include "tensors/scalars.h"
#include "tensors/values.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

Handle handle_argument(napi_env env, napi_callback_info info, Environment*& environment) {
  napi_value value;
  size_t count = 1;
  void* data;
  napi_get_cb_info(env, info, &count, &value, nullptr, &data);
  environment = static_cast<Environment*>(data);
  double number = 0;
  napi_get_value_double(env, value, &number);
  return number > 0 && number < 9007199254740992.0 ? static_cast<Handle>(number) : 0;
}

// release(handle) -> was it alive?
napi_value release(napi_env env, napi_callback_info info) {
  Environment* environment;
  auto handle = handle_argument(env, info, environment);
  napi_value result;
  napi_get_boolean(env, environment->release(handle), &result);
  return result;
}

// None where there are too many to be counted.
optional<size_t> count_elements(const std::vector<int64_t>& shape) {
  size_t elements = 1;
  bool overflow = false, is_empty = false;
  for (auto size : shape) {
    if (size < 0) fail("ERR_ARGUMENT", "shape: expected sizes of at least 0, got ", size);
    is_empty = is_empty || size == 0;
    overflow = __builtin_mul_overflow(elements, static_cast<size_t>(size), &elements) || overflow;
  }
  if (is_empty) return 0;
  return overflow ? nullopt : optional<size_t>(elements);
}

// tensorFromData(view, dtype of the view, shape, dtype, device) copies.
Napi::Value tensor_from_data(const Napi::CallbackInfo& info) {
  auto view_dtype = parse_dtype(to_text(info[1], "dtype of the data"));
  auto shape = to_integers(info[2], "shape");  // runs JavaScript: the data is looked at afterwards
  auto dtype = parse_dtype(to_text(info[3], "dtype"));
  auto device = parse_device(to_text(info[4], "device"));
  if (!info[0].IsTypedArray()) fail("ERR_ARGUMENT", "data: expected a typed array");
  auto view = info[0].As<Napi::TypedArray>();

  auto elements = count_elements(shape);
  size_t bytes = 0;
  bool overflow = !elements || __builtin_mul_overflow(*elements, c10::elementSize(view_dtype), &bytes);
  if (overflow || bytes != view.ByteLength())
    fail("ERR_SHAPE_MISMATCH", "shape (", c10::Join(", ", shape), ") needs ",
         elements ? c10::str(*elements) : "more than 2^64", " elements, the data has ",
         view.ByteLength() / c10::elementSize(view_dtype));

  trace::Paused paused;
  auto tensor = at::empty(shape, at::TensorOptions().dtype(view_dtype));
  if (bytes > 0)
    std::memcpy(tensor.data_ptr(), static_cast<const char*>(view.ArrayBuffer().Data()) + view.ByteOffset(),
                bytes);
  return from_tensor(info.Env(), tensor.to(at::TensorOptions().dtype(dtype).device(device)));
}

// The elements in row-major order as a new ArrayBuffer, whatever the device, layout or strides.
Napi::Value tensor_to_data(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  trace::note_read(trace::Read::Value, "toTypedArray", tensor);
  if (tensor.is_nested())
    fail("ERR_NOT_IMPLEMENTED", "the elements of a nested tensor have no shape to be read in; unbind() it");
  trace::Paused paused;
  tensor = tensor.detach();
  if (tensor.is_quantized()) tensor = tensor.int_repr();
  if (tensor.layout() != at::kStrided) tensor = tensor.to_dense();
  tensor = tensor.to(at::kCPU).resolve_conj().resolve_neg().contiguous();
  auto buffer = make_array_buffer(info.Env(), tensor.nbytes());
  if (tensor.nbytes() > 0) std::memcpy(buffer.Data(), tensor.data_ptr(), tensor.nbytes());
  return buffer;
}

Napi::Value tensor_item(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  if (tensor.numel() != 1)
    fail("ERR_SHAPE_MISMATCH", "item: expected a tensor with one element, got ", describe(tensor));
  trace::note_read(trace::Read::Value, "item", tensor);
  trace::Paused paused;
  // A Scalar is signed.
  if (std::string_view(dtype_name(tensor.scalar_type())) == "uint64") {
    uint64_t value = 0;
    std::memcpy(&value, tensor.detach().to(at::kCPU).contiguous().data_ptr(), sizeof value);
    if (value > 9007199254740991) return Napi::BigInt::New(info.Env(), value);
    return Napi::Number::New(info.Env(), static_cast<double>(value));
  }
  return encode_scalar(info.Env(), tensor.item());
}

Napi::Value tensor_shape(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  trace::note_read(trace::Read::Shape, "shape", tensor);
  return from_integers(info.Env(), tensor.sizes());
}
Napi::Value tensor_strides(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  trace::note_read(trace::Read::Shape, "strides", tensor);
  return from_integers(info.Env(), tensor.strides());
}
Napi::Value tensor_dtype(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), dtype_name(to_tensor(info[0]).scalar_type()));
}
Napi::Value tensor_device(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), to_tensor(info[0]).device().str());
}
Napi::Value tensor_layout(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), layout_name(to_tensor(info[0]).layout()));
}
Napi::Value tensor_numel(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  trace::note_read(trace::Read::Shape, "numel", tensor);
  return Napi::Number::New(info.Env(), static_cast<double>(tensor.numel()));
}
// isContiguous(handle, memory format)
Napi::Value is_contiguous(const Napi::CallbackInfo& info) {
  auto format = parse_memory_format(to_text(info[1], "memoryFormat"));
  return Napi::Boolean::New(info.Env(), to_tensor(info[0]).is_contiguous(format));
}
Napi::Value element_size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(to_tensor(info[0]).element_size()));
}
Napi::Value is_nested(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_tensor(info[0]).is_nested());
}
// The scheme's number in libtorch.
Napi::Value quantization_scheme(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<int>(to_tensor(info[0]).qscheme()));
}
// Do two handles name the same tensor (not only equal values)?
Napi::Value is_same(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_tensor(info[0]).is_same(to_tensor(info[1])));
}
// A second handle for the same tensor.
Napi::Value alias(const Napi::CallbackInfo& info) { return from_tensor(info.Env(), to_tensor(info[0])); }

Napi::Value scope_flag(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env()).scope.share(info.Env());
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  auto& tensors = Environment::of(info.Env()).tensors;
  tensors.recount();
  auto object = Napi::Object::New(info.Env());
  object.Set("tensors", static_cast<double>(tensors.live()));
  object.Set("storages", static_cast<double>(tensors.storages()));
  object.Set("bytes", static_cast<double>(tensors.bytes()));
  object.Set("idle", static_cast<double>(idle_block_bytes()));
  return object;
}

Napi::Value dtype_list(const Napi::CallbackInfo& info) {
  auto names = dtype_names();
  auto array = Napi::Array::New(info.Env(), names.size());
  for (uint32_t i = 0; i < names.size(); i++) array.Set(i, names[i]);
  return array;
}

}  // namespace

void export_tensors(Napi::Env env, Napi::Object exports) {
  napi_value function;
  napi_create_function(env, "release", NAPI_AUTO_LENGTH, guarded_raw<release>, &Environment::of(env),
                       &function);
  exports.Set("release", function);
  exports.Set("tensorFromData", Napi::Function::New<guarded<tensor_from_data>>(env));
  exports.Set("tensorToData", Napi::Function::New<guarded<tensor_to_data>>(env));
  exports.Set("item", Napi::Function::New<guarded<tensor_item>>(env));
  exports.Set("shape", Napi::Function::New<guarded<tensor_shape>>(env));
  exports.Set("strides", Napi::Function::New<guarded<tensor_strides>>(env));
  exports.Set("dtype", Napi::Function::New<guarded<tensor_dtype>>(env));
  exports.Set("device", Napi::Function::New<guarded<tensor_device>>(env));
  exports.Set("layout", Napi::Function::New<guarded<tensor_layout>>(env));
  exports.Set("numel", Napi::Function::New<guarded<tensor_numel>>(env));
  exports.Set("isContiguous", Napi::Function::New<guarded<is_contiguous>>(env));
  exports.Set("elementSize", Napi::Function::New<guarded<element_size>>(env));
  exports.Set("isNested", Napi::Function::New<guarded<is_nested>>(env));
  exports.Set("quantizationScheme", Napi::Function::New<guarded<quantization_scheme>>(env));
  exports.Set("isSame", Napi::Function::New<guarded<is_same>>(env));
  exports.Set("alias", Napi::Function::New<guarded<alias>>(env));
  exports.Set("scopeFlag", Napi::Function::New<guarded<scope_flag>>(env));
  exports.Set("memory", Napi::Function::New<guarded<memory>>(env));
  exports.Set("dtypes", Napi::Function::New<guarded<dtype_list>>(env));
}

}  // namespace alambic
