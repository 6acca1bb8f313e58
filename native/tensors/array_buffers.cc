#include "tensors/array_buffers.h"

#include "errors.h"

namespace alambic {

// JavaScript's constructor throws where Node-API's function ends the process; it is slower by a third of a
// microsecond, and small buffers are made for each tensor that is read.
static constexpr size_t small = size_t{1} << 16;

Napi::ArrayBuffer make_array_buffer(Napi::Env env, size_t bytes) {
  if (bytes <= small) return Napi::ArrayBuffer::New(env, bytes);
  try {
    auto constructor = env.Global().Get("ArrayBuffer").As<Napi::Function>();
    return constructor.New({Napi::Number::New(env, static_cast<double>(bytes))}).As<Napi::ArrayBuffer>();
  } catch (const Napi::Error& error) {
    fail("ERR_OUT_OF_MEMORY", "JavaScript has no room for ", bytes, " bytes: ", error.Message());
  }
}

}  // namespace alambic
