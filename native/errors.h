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

// An environment ends while C++ computes: a worker is terminated, the process exits. From then on Node-API
// refuses every call that could run JavaScript, and node-addon-api throws what it is refused as a
// Napi::Error, which has to stop in C++. Nothing is lost: JavaScript does not go on in that environment, so
// there is nobody to be told.

// To be called in a catch block: hands what was caught over to JavaScript. Ends without effect in an
// environment that ends.
void throw_to_js(napi_env env) noexcept;

// Runs what JavaScript called: every C++ exception becomes a JavaScript one, which node-addon-api's wrapper
// of the callback hands over. For constructors and methods, whose wrappers have work of their own to do.
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
Napi::Value guarded(const Napi::CallbackInfo& info) noexcept {
  try {
    return function(info);
  } catch (...) {
    throw_to_js(info.Env());
  }
  return Napi::Value();
}

// And for functions written against the plain C interface, where every nanosecond counts.
template <napi_value (*function)(napi_env, napi_callback_info)>
napi_value guarded_raw(napi_env env, napi_callback_info info) noexcept {
  try {
    return function(env, info);
  } catch (...) {
    throw_to_js(env);
  }
  return nullptr;
}

// Settles a promise: with the value that `body` returns, or with the error that it throws. Leaves it alone in
// an environment that ends.
template <typename Body>
void settle(Napi::Env env, const Napi::Promise::Deferred& promise, Body&& body) noexcept {
  try {
    Napi::HandleScope scope(env);
    napi_value value = nullptr, error = nullptr;
    try {
      value = body();
    } catch (const Napi::Error& thrown) {
      error = thrown.Value();
    } catch (...) {
      error = to_js_error(env, std::current_exception());
    }
    if (error == nullptr)
      promise.Resolve(value);
    else
      promise.Reject(error);
  } catch (...) {  // the environment ends
  }
}

}  // namespace alambic
