// TorchScript modules in JavaScript: opaque objects, and functions that take them. `lib/script/` makes a
// class of it.
#pragma once
#include <napi.h>
#include <torch/csrc/jit/api/module.h>

namespace alambic::script {

Napi::Value from_module(Napi::Env env, torch::jit::Module module);
// Throws ERR_ARGUMENT for anything that `from_module` didn't make.
const torch::jit::Module& to_module(const Napi::Value& value);

// "ResNet": what the class was called in Python.
std::string class_name(const torch::jit::Module& module);

void export_inspection(Napi::Env env, Napi::Object exports);  // inspect.cc
void export_loading(Napi::Env env, Napi::Object exports);     // load.cc
void export_running(Napi::Env env, Napi::Object exports);     // run.cc

}  // namespace alambic::script

namespace alambic {

// Everything of `native/script/`.
void export_script(Napi::Env env, Napi::Object exports);

}  // namespace alambic
