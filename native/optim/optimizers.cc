#include "optim/optimizers.h"

#include "environment.h"
#include "errors.h"
#include "optim/adam.h"
#include "optim/clip.h"
#include "optim/sgd.h"
#include "optim/update.h"
#include "tensors/values.h"

namespace alambic {

namespace {

using namespace optim;

// ---- Reading
// -------------------------------------------------------------------------------------------------------

double read_number(const Napi::Object& options, const char* name) {
  return to_double(options.Get(name), name);
}
bool read_flag(const Napi::Object& options, const char* name) { return to_bool(options.Get(name), name); }
optional<bool> read_optional_flag(const Napi::Object& options, const char* name) {
  auto value = options.Get(name);
  if (value.IsUndefined() || value.IsNull()) return nullopt;
  return to_bool(value, name);
}
Preference read_preference(const Napi::Object& options) {
  return {read_optional_flag(options, "fused"), read_optional_flag(options, "foreach")};
}

void read_options(const Napi::Object& object, SgdOptions& options) {
  options = {read_number(object, "lr"),        read_number(object, "momentum"),
             read_number(object, "dampening"), read_number(object, "weightDecay"),
             read_flag(object, "nesterov"),    read_flag(object, "maximize"),
             read_preference(object)};
}

void read_options(const Napi::Object& object, AdamOptions& options) {
  auto betas = object.Get("betas");
  if (!betas.IsArray() || betas.As<Napi::Array>().Length() != 2)
    fail("ERR_ARGUMENT", "betas: expected an array of two numbers");
  options = {read_number(object, "lr"),
             to_double(betas.As<Napi::Array>().Get(uint32_t{0}), "betas[0]"),
             to_double(betas.As<Napi::Array>().Get(uint32_t{1}), "betas[1]"),
             read_number(object, "eps"),
             read_number(object, "weightDecay"),
             read_flag(object, "amsgrad"),
             read_flag(object, "maximize"),
             read_preference(object)};
}

std::vector<Handle> to_parameter_handles(const Napi::Value& value) {
  if (!value.IsArray()) fail("ERR_ARGUMENT", "params: expected an array of tensors");
  auto array = value.As<Napi::Array>();
  std::vector<Handle> handles;
  for (uint32_t i = 0; i < array.Length(); i++) handles.push_back(to_handle(array.Get(i)));
  return handles;
}

// Naming the one that was released.
Tensors look_up(const Environment& environment, const std::vector<Handle>& handles, const char* what) {
  Tensors tensors;
  tensors.reserve(handles.size());
  for (size_t i = 0; i < handles.size(); i++) try {
      tensors.push_back(environment.tensors.get(handles[i]));
    } catch (const CodedError& error) {
      throw CodedError(error.code(), c10::str(what, ": parameter ", i, ": ", error.what()));
    }
  return tensors;
}

// ---- The class
// -----------------------------------------------------------------------------------------------------

// new Sgd(), new Adam(), new AdamW()
template <typename Algorithm>
class OptimizerObject : public Napi::ObjectWrap<OptimizerObject<Algorithm>>, public Update {
  using Self = OptimizerObject<Algorithm>;
  using Base = Napi::ObjectWrap<Self>;

 public:
  explicit OptimizerObject(const Napi::CallbackInfo& info) : Base(info) {}
  ~OptimizerObject() override { report_memory(0); }

  void zero_grad() override { optimizer_.zero_grad(/*set_to_none=*/true); }
  void step() override { step_groups(prepared_); }

  void step_unless(const at::Tensor& skip) override {
    optimizer_.check_fit();
    for (size_t i = 0; i < prepared_.size(); i++) {
      DeviceDecision decision{rates_[i].on_device, skip};
      optimizer_.step(i, prepared_[i], &decision);
    }
  }

  void write_rates() override {
    rates_.resize(prepared_.size());
    for (size_t i = 0; i < prepared_.size(); i++) rates_[i].write(prepared_[i].lr, optimizer_.device(i));
  }

  std::string obstacle() const override {
    for (size_t i = 0; i < prepared_.size(); i++)
      if (auto reason = optimizer_.device_obstacle(i, prepared_[i]); !reason.empty()) return reason;
    return "";
  }

  std::vector<double> constants() const override {
    std::vector<double> all;
    for (const auto& options : prepared_)
      for (double number : options.constants()) all.push_back(number);
    return all;
  }

  Tensors state() const override {
    Tensors all;
    for (const auto* trainable : optimizer_.trainables())
      for (const auto& tensor : trainable->state) all.push_back(tensor);
    return all;
  }

  static Napi::Function define(Napi::Env env, const char* name) {
    return Base::DefineClass(
        env, name,
        {Base::InstanceMethod("addGroup", &Self::template call<&Self::add_group>),
         Base::InstanceMethod("step", &Self::template call<&Self::step_binding>),
         Base::InstanceMethod("update", &Self::template call<&Self::update>),
         Base::InstanceMethod("prepareStep", &Self::template call<&Self::prepare_step>),
         Base::InstanceMethod("zeroGrad", &Self::template call<&Self::zero_grad_binding>),
         Base::InstanceMethod("state", &Self::template call<&Self::state_binding>),
         Base::InstanceMethod("loadState", &Self::template call<&Self::load_state>)});
  }

 private:
  template <Napi::Value (Self::*method)(const Napi::CallbackInfo&)>
  Napi::Value call(const Napi::CallbackInfo& info) {
    return guard(info.Env(), [&] {
      if (is_busy)
        fail("ERR_BUSY",
             "the optimizer is used by a compiled step in another thread: wait for the training, or look at "
             "it "
             "in onStep or onEpoch, which are called between the steps");
      return (this->*method)(info);
    });
  }

  static typename Algorithm::Options to_options(const Napi::Value& value) {
    typename Algorithm::Options options;
    if (!value.IsObject()) fail("ERR_ARGUMENT", "options: expected an object");
    read_options(value.As<Napi::Object>(), options);
    options.check();
    return options;
  }

  // addGroup(parameters, options)
  Napi::Value add_group(const Napi::CallbackInfo& info) {
    to_options(info[1]);
    auto handles = to_parameter_handles(info[0]);
    optimizer_.add_group(look_up(Environment::of(info.Env()), handles, "params"));
    handles_.push_back(std::move(handles));
    return info.Env().Undefined();
  }

  using GroupOptions = std::vector<typename Algorithm::Options>;

  // Options of each group, once all parameters are known to be there.
  GroupOptions to_group_options(const Napi::Value& value) {
    auto groups = value.As<Napi::Array>();
    if (!value.IsArray() || groups.Length() != optimizer_.groups())
      fail("ERR_LENGTH_MISMATCH", "paramGroups: expected ", optimizer_.groups(),
           " groups; add one with addParamGroup()");
    GroupOptions options;
    for (uint32_t i = 0; i < groups.Length(); i++) try {
        options.push_back(to_options(groups.Get(i)));
      } catch (const CodedError& error) {
        fail(error.code(), "step: paramGroups[", i, "].", error.what());
      }
    check_alive(value.Env(), "step");
    return options;
  }

  void step_groups(const GroupOptions& options) {
    optimizer_.check_fit();
    for (size_t i = 0; i < options.size(); i++) optimizer_.step(i, options[i]);
  }

  // step(options of each group)
  Napi::Value step_binding(const Napi::CallbackInfo& info) {
    step_groups(to_group_options(info[0]));
    report_memory(optimizer_.state_bytes());
    return info.Env().Undefined();
  }

  // update() -> this as an Update
  Napi::Value update(const Napi::CallbackInfo& info) { return Napi::External<Update>::New(info.Env(), this); }

  // prepareStep(options of each group): for the next step() of the Update
  Napi::Value prepare_step(const Napi::CallbackInfo& info) {
    prepared_ = to_group_options(info[0]);
    report_memory(optimizer_.state_bytes());
    return info.Env().Undefined();
  }

  // A tensor that was disposed of is no longer trained, though the optimizer still could.
  void check_alive(Napi::Env env, const char* what) {
    for (const auto& handles : handles_) look_up(Environment::of(env), handles, what);
  }

  // zeroGrad(setToNone)
  Napi::Value zero_grad_binding(const Napi::CallbackInfo& info) {
    optimizer_.zero_grad(to_bool(info[0], "setToNone"));
    return info.Env().Undefined();
  }

  // state() -> { name: handle } per parameter
  Napi::Value state_binding(const Napi::CallbackInfo& info) {
    auto trainables = optimizer_.trainables();
    auto array = Napi::Array::New(info.Env(), trainables.size());
    for (uint32_t i = 0; i < trainables.size(); i++) {
      auto object = Napi::Object::New(info.Env());
      for (size_t entry = 0; entry < optimizer_.entries().size(); entry++)
        if (const auto& tensor = trainables[i]->state[entry]; tensor.defined())
          object.Set(optimizer_.entries()[entry].name, from_tensor(info.Env(), tensor));
      array.Set(i, object);
    }
    return array;
  }

  // Of one parameter; what an optimizer of another kind saved is refused, and so is a part of a state.
  Tensors read_state(const Napi::Object& object, uint32_t index) {
    const auto& entries = optimizer_.entries();
    Tensors state(entries.size());
    auto names = object.GetPropertyNames();
    for (uint32_t i = 0; i < names.Length(); i++) {
      auto name = names.Get(i).ToString().Utf8Value();
      size_t entry = 0;
      while (entry < entries.size() && entries[entry].name != name) entry++;
      if (entry == entries.size())
        fail("ERR_STATE_DICT", "loadStateDict: parameter ", index, " has the state ", name,
             ", which is that of another optimizer: this one keeps ", list_entries());
      state[entry] = to_tensor(object.Get(name));
    }
    for (size_t entry = 0; names.Length() > 0 && entry < entries.size(); entry++)
      if (!state[entry].defined() && !entries[entry].is_optional)
        fail("ERR_STATE_DICT", "loadStateDict: parameter ", index, " has no ", entries[entry].name,
             " beside the rest of its state");
    return state;
  }

  std::string list_entries() const {
    std::string list;
    for (const auto& entry : optimizer_.entries())
      list += (list.empty() ? "" : ", ") + std::string(entry.name);
    return list;
  }

  // loadState({ name: handle } per parameter, options of each group): copies the state. The options are
  // checked only; JavaScript keeps them.
  Napi::Value load_state(const Napi::CallbackInfo& info) {
    auto groups = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < groups.Length(); i++) try {
        to_options(groups.Get(i));
      } catch (const CodedError& error) {
        fail("ERR_STATE_DICT", "loadStateDict: param_groups[", i, "].", error.what());
      }
    auto array = info[0].As<Napi::Array>();
    if (!info[0].IsArray() || array.Length() != optimizer_.trainables().size())
      fail("ERR_STATE_DICT", "loadStateDict: expected the state of ", optimizer_.trainables().size(),
           " parameters");
    std::vector<Tensors> states;
    for (uint32_t i = 0; i < array.Length(); i++)
      states.push_back(read_state(array.Get(i).template As<Napi::Object>(), i));
    optimizer_.load_state(states);
    report_memory(optimizer_.state_bytes());
    return info.Env().Undefined();
  }

  // The state is memory that the engine cannot see.
  void report_memory(int64_t bytes) {
    if (bytes == reported_bytes_) return;
    Napi::MemoryManagement::AdjustExternalMemory(this->Env(), bytes - reported_bytes_);
    reported_bytes_ = bytes;
  }

  // A learning rate where the device reads it.
  struct Rate {
    double written;
    at::Tensor on_device;

    void write(double lr, at::Device device) {
      if (on_device.defined() && on_device.device() == device && written == lr) return;
      at::NoGradGuard no_grad;
      if (!on_device.defined() || on_device.device() != device)
        on_device = at::empty({}, at::TensorOptions(device).dtype(at::kFloat));
      on_device.fill_(lr);  // where it is: a graph knows its address
      written = lr;
    }
  };

  Algorithm optimizer_;
  GroupOptions prepared_;
  std::vector<Rate> rates_;                   // of each group
  std::vector<std::vector<Handle>> handles_;  // of each group
  int64_t reported_bytes_ = 0;
};

// ---- Clipping
// ------------------------------------------------------------------------------------------------------

// clipGradNorm(parameters, maxNorm, normType, errorIfNonfinite) -> norm
Napi::Value clip_grad_norm(const Napi::CallbackInfo& info) {
  auto parameters = look_up(Environment::of(info.Env()), to_parameter_handles(info[0]), "params");
  auto most = to_double(info[1], "maxNorm"), norm_type = to_double(info[2], "normType");
  check_not_negative("maxNorm", most);
  return from_tensor(info.Env(),
                     clip_gradient_norm(parameters, most, norm_type, to_bool(info[3], "errorIfNonfinite")));
}

// clipGradValue(parameters, clipValue)
Napi::Value clip_grad_value(const Napi::CallbackInfo& info) {
  auto parameters = look_up(Environment::of(info.Env()), to_parameter_handles(info[0]), "params");
  auto most = to_double(info[1], "clipValue");
  check_not_negative("clipValue", most);
  clip_gradient_values(parameters, most);
  return info.Env().Undefined();
}

}  // namespace

void export_optimizers(Napi::Env env, Napi::Object exports) {
  exports.Set("Sgd", OptimizerObject<Sgd>::define(env, "Sgd"));
  exports.Set("Adam", OptimizerObject<Adam>::define(env, "Adam"));
  exports.Set("AdamW", OptimizerObject<AdamW>::define(env, "AdamW"));
  exports.Set("clipGradNorm", Napi::Function::New<guarded<clip_grad_norm>>(env));
  exports.Set("clipGradValue", Napi::Function::New<guarded<clip_grad_value>>(env));
}

}  // namespace alambic
