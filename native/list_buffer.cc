#include "list_buffer.h"

#include "environment.h"
#include "errors.h"
#include "values.h"

namespace alambic {

Napi::Value ListBuffer::resize(Napi::Env env, size_t length) {
  auto array = Napi::Float64Array::New(env, length);
  array_ = Napi::Persistent(array);
  data_ = array.Data();
  size_ = length;
  return array;
}

std::pair<const double*, size_t> ListReader::next(napi_env env, napi_value value) {
  uint32_t length = 0;
  if (napi_get_value_uint32(env, value, &length) != napi_ok || length > buffer_.size() - used_)
    fail("ERR_ARGUMENT", "call: expected the length of a list in the list buffer");
  const auto* start = buffer_.data() + used_;
  used_ += length;
  return {start, length};
}

namespace {

// listBuffer(length) -> Float64Array
Napi::Value list_buffer(const Napi::CallbackInfo& info) {
  auto length = to_integer(info[0], "length");
  if (length < 1 || length > (int64_t{1} << 32))
    fail("ERR_ARGUMENT", "listBuffer: expected a length, got ", length);
  return Environment::of(info.Env()).lists.resize(info.Env(), static_cast<size_t>(length));
}

// releaseAll(count): the handles at the start of the list buffer.
Napi::Value release_all(const Napi::CallbackInfo& info) {
  auto& environment = Environment::of(info.Env());
  auto [handles, count] = ListReader(environment.lists).next(info.Env(), info[0]);
  for (size_t i = 0; i < count; i++) environment.release(static_cast<Handle>(handles[i]));
  return info.Env().Undefined();
}

}  // namespace

void export_list_buffer(Napi::Env env, Napi::Object exports) {
  exports.Set("listBuffer", Napi::Function::New<guarded<list_buffer>>(env));
  exports.Set("releaseAll", Napi::Function::New<guarded<release_all>>(env));
}

}  // namespace alambic
