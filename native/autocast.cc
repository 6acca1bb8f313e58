#include "autocast.h"

#include <ATen/autocast_mode.h>

#include "errors.h"
#include "values.h"

namespace alambic {

namespace {

#if ALAMBIC_TORCH_AT_LEAST(2, 4)
bool is_enabled(at::DeviceType device) { return at::autocast::is_autocast_enabled(device); }
void set_enabled(at::DeviceType device, bool enabled) { at::autocast::set_autocast_enabled(device, enabled); }
at::ScalarType dtype_of(at::DeviceType device) { return at::autocast::get_autocast_dtype(device); }
void set_dtype(at::DeviceType device, at::ScalarType dtype) {
  at::autocast::set_autocast_dtype(device, dtype);
}
#else
// Only these two devices had it.
bool is_enabled(at::DeviceType device) {
  return device == at::kCPU ? at::autocast::is_cpu_enabled() : at::autocast::is_enabled();
}
void set_enabled(at::DeviceType device, bool enabled) {
  device == at::kCPU ? at::autocast::set_cpu_enabled(enabled) : at::autocast::set_enabled(enabled);
}
at::ScalarType dtype_of(at::DeviceType device) {
  return device == at::kCPU ? at::autocast::get_autocast_cpu_dtype() : at::autocast::get_autocast_gpu_dtype();
}
void set_dtype(at::DeviceType device, at::ScalarType dtype) {
  device == at::kCPU ? at::autocast::set_autocast_cpu_dtype(dtype)
                     : at::autocast::set_autocast_gpu_dtype(dtype);
}
#endif

bool has_autocast(at::DeviceType device) { return device == at::kCPU || device == at::kCUDA; }

optional<at::ScalarType> current_dtype(at::DeviceType device) {
  return is_enabled(device) ? optional<at::ScalarType>(dtype_of(device)) : nullopt;
}

// The casts of parameters are good until the parameters change.
void end_if_off(at::DeviceType device) {
  if (!is_enabled(device)) at::autocast::clear_cache();
}

void set_mode(at::DeviceType device, optional<at::ScalarType> dtype) {
  if (dtype) set_dtype(device, *dtype);
  set_enabled(device, dtype.has_value());
  end_if_off(device);
}

// setAutocast(device, dtype | null) -> what it was; per thread
Napi::Value set_autocast(const Napi::CallbackInfo& info) {
  auto device = parse_device(to_text(info[0], "device")).type();
  if (!has_autocast(device))
    fail("ERR_DEVICE", "autocast: expected the device 'cpu' or 'cuda', got '", to_text(info[0], "device"),
         "'");
  auto before = current_dtype(device);
  set_mode(device, info[1].IsNull() ? optional<at::ScalarType>()
                                    : optional<at::ScalarType>(parse_dtype(to_text(info[1], "dtype"))));
  if (!before) return info.Env().Null();
  return Napi::String::New(info.Env(), dtype_name(*before));
}

}  // namespace

optional<at::ScalarType> autocast_dtype(const at::Tensor& tensor) {
  auto device = tensor.device().type();
  return has_autocast(device) ? current_dtype(device) : nullopt;
}

at::Tensor autocast(const at::Tensor& tensor) {
  auto dtype = autocast_dtype(tensor);
  return dtype ? at::autocast::cached_cast(*dtype, tensor, tensor.device().type()) : tensor;
}

optional<at::Tensor> autocast(const optional<at::Tensor>& tensor) {
  return tensor ? optional<at::Tensor>(autocast(*tensor)) : nullopt;
}

AutocastMode AutocastMode::current() { return {current_dtype(at::kCPU), current_dtype(at::kCUDA)}; }

WithAutocast::WithAutocast(const AutocastMode& mode) : before_(AutocastMode::current()) {
  set_mode(at::kCPU, mode.cpu);
  set_mode(at::kCUDA, mode.cuda);
}

WithAutocast::~WithAutocast() {
  set_mode(at::kCPU, before_.cpu);
  set_mode(at::kCUDA, before_.cuda);
}

void export_autocast(Napi::Env env, Napi::Object exports) {
  exports.Set("setAutocast", Napi::Function::New<guarded<set_autocast>>(env));
}

}  // namespace alambic
