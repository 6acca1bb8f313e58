// Whether a scope of `lib/memory/memory.ts` is open: one byte that both sides see.
#pragma once
#include <napi.h>

namespace alambic {

class ScopeFlag {
 public:
  Napi::Value share(Napi::Env env) {
    if (array_.IsEmpty()) array_ = Napi::Persistent(Napi::Uint8Array::New(env, 1));
    flag_ = array_.Value().Data();
    return array_.Value();
  }
  bool is_open() const { return flag_ != nullptr && *flag_ != 0; }

 private:
  Napi::Reference<Napi::Uint8Array> array_;
  const uint8_t* flag_ = nullptr;
};

}  // namespace alambic
