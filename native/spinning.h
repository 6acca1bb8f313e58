// How long the threads of a parallel operator wait for the next one before they sleep.
#pragma once
#include <napi.h>

namespace alambic {

void export_spinning(Napi::Env env, Napi::Object exports);

}  // namespace alambic
