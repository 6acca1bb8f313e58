// A TypeScript module as a TorchScript file.
#pragma once
#include <napi.h>

namespace alambic {

// TracedModule, runSavedModule.
void export_module_export(Napi::Env env, Napi::Object exports);

}  // namespace alambic
