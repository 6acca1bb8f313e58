// Automatic mixed precision: which dtype operators compute in, by device, in this thread.
#pragma once
#include <ATen/ATen.h>
#include <napi.h>

#include "compat.h"

namespace alambic {

// What convolutions and matrix products compute in on this tensor's device; nullopt outside of autocast.
optional<at::ScalarType> autocast_dtype(const at::Tensor& tensor);

// The tensor in that dtype, where autocast applies to it. A parameter's copy is kept until autocast ends.
at::Tensor autocast(const at::Tensor& tensor);
optional<at::Tensor> autocast(const optional<at::Tensor>& tensor);

// The dtypes of autocast in this thread, to have them again in another.
struct AutocastMode {
  optional<at::ScalarType> cpu, cuda;

  static AutocastMode current();
};

class WithAutocast {
 public:
  explicit WithAutocast(const AutocastMode& mode);
  ~WithAutocast();
  WithAutocast(const WithAutocast&) = delete;
  WithAutocast& operator=(const WithAutocast&) = delete;

 private:
  AutocastMode before_;
};

// setAutocast.
void export_autocast(Napi::Env env, Napi::Object exports);

}  // namespace alambic
