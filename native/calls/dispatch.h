// The one binding through which every ATen operator is called.
#pragma once
#include <napi.h>

namespace alambic {

// plan, call, operatorNames, namespaces, schemas, operatorCounts.
void export_dispatch(Napi::Env env, Napi::Object exports);

}  // namespace alambic
