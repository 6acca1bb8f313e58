// What differs between the supported versions of libtorch (1.13 and later), and only that.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <c10/core/SymIntArrayRef.h>
#include <c10/util/Logging.h>
#if __has_include(<torch/headeronly/version.h>)
#include <torch/headeronly/version.h>
#else
#include <torch/version.h>
#endif

#include <optional>

#define ALAMBIC_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) || (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

// c10::optional became std::optional in 2.6 or so; both convert from a value.
#if ALAMBIC_TORCH_AT_LEAST(2, 6)
namespace alambic {
template <typename T>
using optional = std::optional<T>;
inline constexpr auto nullopt = std::nullopt;
}  // namespace alambic
#else
namespace alambic {
template <typename T>
using optional = c10::optional<T>;
inline constexpr auto nullopt = c10::nullopt;
}  // namespace alambic
#endif

#if ALAMBIC_TORCH_AT_LEAST(2, 3)
#define ALAMBIC_UNSIGNED_DTYPES {"uint16", at::kUInt16}, {"uint32", at::kUInt32}, {"uint64", at::kUInt64},
#else
#define ALAMBIC_UNSIGNED_DTYPES
#endif
#if ALAMBIC_TORCH_AT_LEAST(2, 7)
#define ALAMBIC_SCALE_DTYPES {"float8_e8m0fnu", at::kFloat8_e8m0fnu},
#else
#define ALAMBIC_SCALE_DTYPES
#endif
#if ALAMBIC_TORCH_AT_LEAST(2, 2)
#define ALAMBIC_NEWER_DTYPES                                                         \
  ALAMBIC_UNSIGNED_DTYPES ALAMBIC_SCALE_DTYPES{"float8_e4m3fn", at::kFloat8_e4m3fn}, \
      {"float8_e5m2", at::kFloat8_e5m2}, {"float8_e4m3fnuz", at::kFloat8_e4m3fnuz},  \
      {"float8_e5m2fnuz", at::kFloat8_e5m2fnuz},
#else
#define ALAMBIC_NEWER_DTYPES ALAMBIC_UNSIGNED_DTYPES
#endif

// `torch::jit::load` reads what the source of a file looked like in Python only to show it in tracebacks;
// newer ones can leave that out.
#if ALAMBIC_TORCH_AT_LEAST(2, 1)
#define ALAMBIC_WITHOUT_DEBUG_FILES , /*load_debug_files=*/false
#else
#define ALAMBIC_WITHOUT_DEBUG_FILES
#endif

namespace alambic::compat {

#if ALAMBIC_TORCH_AT_LEAST(2, 4)
inline bool is_autocast_enabled(at::DeviceType device) { return at::autocast::is_autocast_enabled(device); }
inline void set_autocast_enabled(at::DeviceType device, bool enabled) {
  at::autocast::set_autocast_enabled(device, enabled);
}
inline at::ScalarType autocast_dtype_of(at::DeviceType device) {
  return at::autocast::get_autocast_dtype(device);
}
inline void set_autocast_dtype(at::DeviceType device, at::ScalarType dtype) {
  at::autocast::set_autocast_dtype(device, dtype);
}
#else
// Only CPU and CUDA had it.
inline bool is_autocast_enabled(at::DeviceType device) {
  return device == at::kCPU ? at::autocast::is_cpu_enabled() : at::autocast::is_enabled();
}
inline void set_autocast_enabled(at::DeviceType device, bool enabled) {
  device == at::kCPU ? at::autocast::set_cpu_enabled(enabled) : at::autocast::set_enabled(enabled);
}
inline at::ScalarType autocast_dtype_of(at::DeviceType device) {
  return device == at::kCPU ? at::autocast::get_autocast_cpu_dtype() : at::autocast::get_autocast_gpu_dtype();
}
inline void set_autocast_dtype(at::DeviceType device, at::ScalarType dtype) {
  device == at::kCPU ? at::autocast::set_autocast_cpu_dtype(dtype)
                     : at::autocast::set_autocast_gpu_dtype(dtype);
}
#endif

// Integers where symbolic ones are taken as well.
inline c10::SymIntArrayRef to_symbolic(at::IntArrayRef integers) {
#if ALAMBIC_TORCH_AT_LEAST(2, 0)
  return c10::fromIntArrayRefSlow(integers);
#else
  return c10::fromIntArrayRef(integers);
#endif
}

// Warnings: of the thread since 2.0, of the process before.
#if ALAMBIC_TORCH_AT_LEAST(2, 0)
namespace warning_functions = c10::WarningUtils;
#else
namespace warning_functions = c10::Warning;
#endif
inline void set_warning_handler(c10::WarningHandler* handler) {
  warning_functions::set_warning_handler(handler);
}
inline bool warns_always() { return warning_functions::get_warnAlways(); }
inline void set_warns_always(bool always) { warning_functions::set_warnAlways(always); }

// While it lives libtorch logs errors only. Not where its log is Google's, which Debian's package uses.
class QuietLog {
#ifndef C10_USE_GLOG
 public:
  QuietLog() : level_(FLAGS_caffe2_log_level) { FLAGS_caffe2_log_level = c10::GLOG_ERROR; }
  ~QuietLog() { FLAGS_caffe2_log_level = level_; }
  QuietLog(const QuietLog&) = delete;
  QuietLog& operator=(const QuietLog&) = delete;

 private:
  int level_;
#else
 public:
  ~QuietLog() {}  // used for its scope
#endif
};

// Whether NNPACK may be used: newer versions can be told. Asked of the class, not of the version.
template <typename Context>
auto nnpack_enabled(const Context& context, int) -> decltype(context.userEnabledNNPACK()) {
  return context.userEnabledNNPACK();
}
template <typename Context>
bool nnpack_enabled(const Context&, long) {
  return at::_nnpack_available();
}
// False where it cannot be told.
template <typename Context>
auto enable_nnpack(Context& context, bool on, int) -> decltype(context.setUserEnabledNNPACK(on), bool()) {
  context.setUserEnabledNNPACK(on);
  return true;
}
template <typename Context>
bool enable_nnpack(Context&, bool, long) {
  return false;
}

inline bool allows_fp16_reduction(const at::Context& context) {
#if ALAMBIC_TORCH_AT_LEAST(2, 9)
  return context.allowFP16ReductionCuBLAS() == at::CuBLASReductionOption::AllowReducedPrecisionWithSplitK;
#else
  return context.allowFP16ReductionCuBLAS();
#endif
}

// Of libtorch 1.13, transposed convolutions in bfloat16 on the CPU take their weight for that of a plain one.
inline constexpr bool has_transposed_bfloat16 = ALAMBIC_TORCH_AT_LEAST(2, 0);

// Before 2.14 a CUDA graph whose capture failed must not be destroyed: the allocator goes on asking it which
// memory is its own.
inline constexpr bool failed_captures_end = ALAMBIC_TORCH_AT_LEAST(2, 14);

// Before 2.2 the memory of a CUDA graph is that of one stream.
inline constexpr bool graphs_hold_streams = ALAMBIC_TORCH_AT_LEAST(2, 2);

}  // namespace alambic::compat
