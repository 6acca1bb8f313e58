#include "calls/call_buffer.h"

#include "environment.h"
#include "errors.h"
#include "tensors/array_buffers.h"
#include "tensors/values.h"

namespace alambic {

Napi::Value CallBuffer::resize(Napi::Env env, size_t length) {
  auto memory = make_array_buffer(env, length * sizeof(double));
  auto array = Napi::Float64Array::New(env, length, memory, 0);
  array_ = Napi::Persistent(array);
  data_ = array.Data();
  size_ = length;
  return array;
}

namespace {

// callBuffer(length) -> Float64Array
Napi::Value call_buffer(const Napi::CallbackInfo& info) {
  auto length = to_integer(info[0], "length");
  if (length < 1 || length > (int64_t{1} << 32))
    fail("ERR_ARGUMENT", "callBuffer: expected a length, got ", length);
  return Environment::of(info.Env()).buffer.resize(info.Env(), static_cast<size_t>(length));
}

// addWord(text) -> number
Napi::Value add_word(const Napi::CallbackInfo& info) {
  auto& words = Environment::of(info.Env()).words;
  auto text = to_text(info[0], "word");
  auto dtype = find_dtype(text);
  words.push_back({std::move(text), dtype, nullopt});
  return Napi::Number::New(info.Env(), static_cast<double>(words.size() - 1));
}

// releaseAll(count): the handles at the start of the buffer.
Napi::Value release_all(const Napi::CallbackInfo& info) {
  auto& environment = Environment::of(info.Env());
  const auto& buffer = environment.buffer;
  auto count = to_integer(info[0], "count");
  if (count < 0 || static_cast<size_t>(count) > buffer.size())
    fail("ERR_ARGUMENT", "releaseAll: expected a number of handles in the buffer, got ", count);
  for (int64_t i = 0; i < count; i++) {
    double number = buffer.data()[i];
    if (number > 0 && number < 9007199254740992.0) environment.release(static_cast<Handle>(number));
  }
  return info.Env().Undefined();
}

}  // namespace

void export_call_buffer(Napi::Env env, Napi::Object exports) {
  exports.Set("callBuffer", Napi::Function::New<guarded<call_buffer>>(env));
  exports.Set("addWord", Napi::Function::New<guarded<add_word>>(env));
  exports.Set("releaseAll", Napi::Function::New<guarded<release_all>>(env));
}

}  // namespace alambic
