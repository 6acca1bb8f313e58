// Tensors over memory that is there already: a file mapped into memory, or another tensor's storage.
#pragma once
#include <napi.h>

namespace alambic {

void export_storages(Napi::Env env, Napi::Object exports);

}  // namespace alambic
