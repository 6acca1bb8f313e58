// Memory of JavaScript's own.
#pragma once
#include <napi.h>

#include <cstddef>

namespace alambic {

// A new ArrayBuffer of zeros. Throws ERR_OUT_OF_MEMORY; Node-API's own function ends the process when there
// is no memory for it, or more asked for than an ArrayBuffer can have.
Napi::ArrayBuffer make_array_buffer(Napi::Env env, size_t bytes);

}  // namespace alambic
