// libtorch's warnings, told to JavaScript.
#pragma once
#include <napi.h>

namespace alambic {

// What libtorch warns of on this thread goes to JavaScript from now on: to the environment of the thread
// where it has one, else to any. For threads that compute for JavaScript.
void listen_to_warnings_here();

void export_warnings(Napi::Env env, Napi::Object exports);

}  // namespace alambic
