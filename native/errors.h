// Errors that reach JavaScript with a stable code. Nothing thrown in C++ may pass a Node-API callback: it
// would abort the process.
#pragma once
#include <c10/util/StringUtil.h>
#include <napi.h>

#include <exception>
#include <stdexcept>
#include <string>

namespace alambic {

// A failure with a code of `docs/errors.md`.
class CodedError : public std::runtime_error {
 public:
  CodedError(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;  // a literal
};

template <typename... Parts>
[[noreturn]] void fail(const char* code, const Parts&... parts) {
  throw CodedError(code, c10::str(parts...));
}

// What libtorch says without its C++ backtrace, and the code that fits its class.
CodedError describe_exception(std::exception_ptr exception);

// The JavaScript error object for an exception: an AlambicError once `setErrorClass` was called.
Napi::Value to_js_error(Napi::Env env, std::exception_ptr exception);

// Runs what JavaScript called: every C++ exception becomes a JavaScript one.
template <typename Body>
auto guard(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;  // already a JavaScript exception; node-addon-api hands it over
  } catch (...) {
    throw Napi::Error(env, to_js_error(env, std::current_exception()));
  }
}

// An exported function.
template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] { return function(info); });
}

// And for functions written against the plain C interface, where every nanosecond counts.
template <napi_value (*function)(napi_env, napi_callback_info)>
napi_value guarded_raw(napi_env env, napi_callback_info info) noexcept {
  try {
    return function(env, info);
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  } catch (...) {
    try {
      napi_throw(env, to_js_error(env, std::current_exception()));
    } catch (...) {
      napi_throw_error(env, "ERR_NATIVE", "an error could not be described");
    }
  }
  return nullptr;
}

}  // namespace alambic
