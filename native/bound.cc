// The calls that a data path makes once a batch, bound to their descriptor beforehand. A thread that has just woken
// up finds its caches cold, so these take no arguments, look at no objects and answer a small integer.
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "addon.h"

namespace xdp {
namespace {

struct Bound {
  pollfd descriptor;
  int timeout;
  int64_t turn;
  int64_t turnEnd;
};

napi_value integer(napi_env env, int32_t value) {
  napi_value result = nullptr;
  napi_create_int32(env, value, &result);
  return result;
}

Bound* boundOf(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  return static_cast<Bound*>(data);
}

napi_value callReceive(napi_env env, napi_callback_info info) {
  ssize_t result = recv(boundOf(env, info)->descriptor.fd, nullptr, 0, MSG_DONTWAIT);
  return integer(env, result < 0 ? -errno : static_cast<int32_t>(result));
}

napi_value callSend(napi_env env, napi_callback_info info) {
  ssize_t result = send(boundOf(env, info)->descriptor.fd, nullptr, 0, MSG_DONTWAIT);
  return integer(env, result < 0 ? -errno : static_cast<int32_t>(result));
}

// Milliseconds of a clock that moves with the kernel's tick, which is exact enough here and cheap to read.
int64_t coarseNow() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

napi_value callWait(napi_env env, napi_callback_info info) {
  Bound* bound = boundOf(env, info);
  if (bound->turnEnd == 0) {
    bound->turnEnd = coarseNow() + bound->turn;
  } else if (coarseNow() >= bound->turnEnd) {
    bound->turnEnd = 0;
    return integer(env, 0);
  }
  bound->descriptor.revents = 0;
  int result = poll(&bound->descriptor, 1, bound->timeout);
  if (result <= 0) bound->turnEnd = 0;
  if (result < 0) return integer(env, errno == EINTR ? 0 : -errno);
  return integer(env, bound->descriptor.revents);
}

napi_value bind(napi_env env, napi_callback call, const char* name, const Bound& values) {
  Bound* bound = new Bound(values);
  napi_value function = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, call, bound, &function) != napi_ok) {
    delete bound;
    return nullptr;
  }
  napi_add_finalizer(
      env, function, bound, [](napi_env, void* data, void*) { delete static_cast<Bound*>(data); }, nullptr, nullptr);
  return function;
}

int32_t intAt(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>().Int32Value(); }

Napi::Value bindReceive(const Napi::CallbackInfo& info) {
  Bound bound{{intAt(info, 0), 0, 0}, 0, 0, 0};
  return {info.Env(), bind(info.Env(), callReceive, "receive", bound)};
}

Napi::Value bindSend(const Napi::CallbackInfo& info) {
  Bound bound{{intAt(info, 0), 0, 0}, 0, 0, 0};
  return {info.Env(), bind(info.Env(), callSend, "send", bound)};
}

Napi::Value bindWait(const Napi::CallbackInfo& info) {
  int turn = intAt(info, 2);
  Bound bound{{intAt(info, 0), static_cast<short>(intAt(info, 1)), 0}, turn, turn, 0};
  return {info.Env(), bind(info.Env(), callWait, "wait", bound)};
}

}  // namespace

void exportBound(Napi::Env env, Napi::Object exports) {
  exports.Set("bindReceive", Napi::Function::New(env, bindReceive, "bindReceive"));
  exports.Set("bindSend", Napi::Function::New(env, bindSend, "bindSend"));
  exports.Set("bindWait", Napi::Function::New(env, bindWait, "bindWait"));
}

}  // namespace xdp
